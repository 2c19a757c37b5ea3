"""Makes the store say what its source says now, for every reference.

One listing of the source confirms, in one transaction and without reading a document, the references whose
target is the one that was read before. The rest (new, moved or gone) are asked for again one by one, batch by
batch: read concurrently, then written in one transaction, with the batch's references held meanwhile. One
broken image is reported and does not stop the others; what the store knew of it stays.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from imagekeep.errors import (
    ImagekeepError,
    ImageNotFoundError,
    PermissionDeniedError,
    SourceUnavailableError,
)
from imagekeep.image import observed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from imagekeep.image import ImageRecord, Observed
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.store import Store
    from imagekeep.transition import Transition

BATCH = 128
"""References written in one transaction. With configs of the largest size allowed, 1 GiB; of the usual, 1 MB."""

READERS = 8
"""Documents read at once: enough to hide the round trips to a daemon, few enough for its socket."""

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@runtime_checkable
class RemembersIds(Protocol):
    """A source that finds the image ids of its targets by reading them, unless it is told."""

    def remember(self, ids: Mapping[str, str]) -> None:
        """Take image ids by the digest of their target, for the platform that the source was made for."""
        ...


@dataclass(slots=True)
class SyncReport:
    """What a sync did: the transition of each reference, and the error of each that could not be read.

    `image_ids` has the image of each reference whose documents were read; what was confirmed is not in it.
    """

    transitions: dict[str, Transition] = field(default_factory=dict)
    image_ids: dict[str, str] = field(default_factory=dict)
    failures: dict[str, ImagekeepError] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[Transition, int]:
        """Return how many references took each transition."""
        return Counter(self.transitions.values())

    @property
    def changed(self) -> dict[str, Transition]:
        """Return the references of which the store says something else now."""
        return {name: transition for name, transition in self.transitions.items() if transition.changed}


def sync(
    store: Store,
    references: Iterable[str] | None = None,
    *,
    verify: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SyncReport:
    """Make the store say what its source says of these references, or of all: those that vanished too.

    With `verify` every document is read again. With `dry_run` everything is decided and written, and each
    transaction rolled back. `progress` is called with how many references are done, of how many. Raises
    SourceUnavailableError and PermissionDeniedError from the source, and the store's own errors; what was
    written before stays.
    """
    report = SyncReport()
    with store.holding(references):
        names, records = _list(store, references, verify=verify)
        if not verify:
            report.transitions.update(store.confirm(records, dry_run=dry_run))
    waiting = [name for name in names if name not in report.transitions]
    done = len(names) - len(waiting)
    for batch in _batches(waiting):
        with store.holding(batch):
            observed, failures = observe_all(store, batch)
            report.transitions.update(store.apply_all(observed, dry_run=dry_run))
            report.image_ids.update((name, image.id) for name, image in observed.items() if image)
            if failures and not dry_run:
                store.note_failures(failures)
        report.failures.update(failures)
        done += len(batch)
        if progress:
            progress(done, len(names))
    return report


def observe_all(
    store: Store, references: Iterable[str]
) -> tuple[dict[str, Observed | None], dict[str, ImagekeepError]]:
    """Read what references are at the source now, several at once, and each target once.

    Return what was observed, and the errors of those that could not be read. Raises SourceUnavailableError and
    PermissionDeniedError: the next reference would fail likewise.
    """
    observed: dict[str, Observed | None] = {}
    failures: dict[str, ImagekeepError] = {}
    with ThreadPoolExecutor(READERS) as pool:
        found = _ask(pool, store.require_source().get, references, failures)
        for name in [name for name, error in failures.items() if isinstance(error, ImageNotFoundError)]:
            observed[name] = None
            del failures[name]
        unread: dict[Descriptor, ImagekeepError] = {}
        targets = {record.target for record in found.values()}
        facts = _ask(pool, store.read_image, targets, unread)
    for name, record in found.items():
        if record.target in facts:
            observed[name] = observed_of(record, facts[record.target])
        else:
            failures[name] = unread[record.target]
    return observed, failures


def _list(
    store: Store, references: Iterable[str] | None, *, verify: bool
) -> tuple[list[str], list[ImageRecord]]:
    """Return the references to look at, those of one target together, and the records the source lists."""
    source = store.require_source()
    if references is not None:
        names = list(dict.fromkeys(references))
        return names, []
    if isinstance(source, RemembersIds) and not verify:
        source.remember(store.known_ids())
    records = sorted(source.references(), key=lambda record: record.target.digest)
    names = [record.reference for record in records]
    return list(dict.fromkeys([*names, *store.states()])), records


def _ask(
    pool: ThreadPoolExecutor,
    question: Callable[[Asked], Answer],
    subjects: Iterable[Asked],
    failures: dict[Asked, ImagekeepError],
) -> dict[Asked, Answer]:
    """Return what `question` answers for each subject; note the errors of those for which it raises."""
    answers: dict[Asked, Answer] = {}
    for subject, future in [(subject, pool.submit(question, subject)) for subject in subjects]:
        try:
            answers[subject] = future.result()
        except (SourceUnavailableError, PermissionDeniedError):
            raise
        except ImagekeepError as error:
            failures[subject] = error
    return answers


def _batches(names: list[str]) -> Iterator[list[str]]:
    """Split a list into batches."""
    rest = iter(names)
    while batch := list(islice(rest, BATCH)):
        yield batch
