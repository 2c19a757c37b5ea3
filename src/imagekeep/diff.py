"""Finds differences between a store and its source, without changing either."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagekeep.errors import ImagekeepError
from imagekeep.internals import observe, require_source
from imagekeep.oci.image_reader import SharedDocuments
from imagekeep.reference import check_name
from imagekeep.sync import is_source_failure
from imagekeep.transition import ReferenceState, Transition, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.image import ImageRecord
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.store import Store


class DifferenceKind(enum.StrEnum):
    """How the source differs from the store about one reference."""

    ADDED = "added"
    GONE = "gone"
    MOVED = "moved"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    INCOMPLETE = "incomplete"


_KINDS = {
    Transition.NEW: DifferenceKind.ADDED,
    Transition.VANISHED: DifferenceKind.GONE,
    Transition.MOVED: DifferenceKind.MOVED,
    Transition.PINNED: DifferenceKind.PINNED,
    Transition.UNPINNED: DifferenceKind.UNPINNED,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A reference that differs between store and source; `detail` says why it cannot be read."""

    reference: str
    kind: DifferenceKind
    store_id: str | None
    source_id: str | None
    detail: str = ""


PAUSES = (0.25, 1.0)
"""Seconds before each further comparison; the last only while a watcher runs, which may catch up."""


class TargetIds:
    """A cache of the image ids of targets, each read once, within the limits of a sync."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shared = SharedDocuments()
        self._ids: dict[Descriptor, str] = {}

    def read(self, target: Descriptor) -> str:
        """Return the image id of a target for the store's first platform; raises as `observe` does."""
        if target not in self._ids:
            image = next(iter(observe(self._store, target, self._shared).images.values()))
            if isinstance(image, ImagekeepError):
                raise image
            self._ids[target] = image.id
        return self._ids[target]


def find_differences(store: Store, pauses: Sequence[float] = PAUSES) -> list[Difference]:
    """Compare the store with its source and return the differences sorted by reference.

    Compares again after a pause, so that changes the store picks up meanwhile are not differences. Does not
    reread targets that the store has read. Raises SOURCE_FAILURES from the source.
    """
    found = _compare_all(store)
    for pause in pauses if store.is_watched() else pauses[:1]:
        if not found:
            break
        time.sleep(pause)
        found = {key: difference for key, difference in _compare_all(store).items() if key in found}
    return sorted(found.values(), key=lambda difference: difference.reference)


def _compare_all(store: Store) -> dict[tuple[str, ReferenceState | None], Difference]:
    """Compare once; return each difference by its reference and the store's state."""
    states = store.states()
    records = {record.reference: record for record in require_source(store).records()}
    ids = TargetIds(store)
    compared = {
        (name, states.get(name)): _compare(name, states.get(name), records.get(name), ids)
        for name in {*states, *records}
    }
    return {key: difference for key, difference in compared.items() if difference}


def _compare(
    name: str,
    before: ReferenceState | None,
    record: ImageRecord | None,
    ids: TargetIds,
) -> Difference | None:
    """Compare one reference; return None if it does not differ."""
    store_id = before.image_id if before else None
    try:
        after = state_at_source(before, record, ids) if record else None
    except ImagekeepError as error:
        if is_source_failure(error):
            raise
        return Difference(name, DifferenceKind.INCOMPLETE, store_id, None, str(error))
    kind = _KINDS.get(decide(before, after))
    return Difference(name, kind, store_id, after.image_id if after else None) if kind else None


def state_at_source(before: ReferenceState | None, record: ImageRecord, ids: TargetIds) -> ReferenceState:
    """Return the state that a record implies, reading documents only if the store has not read them.

    `before` is the store's state. Raises InvalidReferenceError for a name that a store cannot keep, and as
    `observe` does.
    """
    check_name(record.reference)
    if before is not None and before.has_read(record.target.digest):
        return before.with_pin(record.pinned)
    return ReferenceState(ids.read(record.target), record.pinned, record.target.digest)
