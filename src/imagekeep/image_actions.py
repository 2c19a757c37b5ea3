"""Changes the images of a store's source: removes, pins and unpins them, and then updates the store.

::

    actions = Actions.begin(store, tell=print)
    actions.remove("busybox:1.36")          # every reference of the image, and so the image
    actions.untag("example.test/app:v1")    # this reference alone
    actions.pin("busybox:1.35")

An action changes the source and then updates the store from it (`Store.update`). So the store has what is true,
whoever else acts at the same time, and if the source fails, the store has not run ahead of it.
"""

from __future__ import annotations

import enum
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import ImageNotFoundError, ImagePinnedError, InvalidReferenceError, printable
from imagekeep.internals import require_source
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.protocol import require_changeable
from imagekeep.sync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from imagekeep.image import ImageRecord
    from imagekeep.sources.protocol import Changeable
    from imagekeep.store import Store


UNPIN_PAUSE = 0.5
"""Seconds after which an unpinned reference is looked at again. containerd's CRI plugin pins again what its
configuration pins (`pinned_images`, `sandbox`) when it hears of the change, some milliseconds later."""


class Action(enum.StrEnum):
    """What was done: to an image id if the image was deleted, else to a reference."""

    UNTAGGED = "untagged"
    DELETED = "deleted"
    PINNED = "pinned"
    UNPINNED = "unpinned"


class ActionResult(NamedTuple):
    """One change that an action made."""

    deed: Action
    name: str


def remove_references(store: Store, source: Changeable, references: Sequence[str]) -> Iterator[str]:
    """Remove references at the source in order, the last synchronously; yield each once the store is updated.

    A reference that is already gone is not an error (containerd: internal/cri/server/images, RemoveImage). Raises
    what source and store raise.
    """
    for reference in references:
        with suppress(ImageNotFoundError):
            source.remove(reference, synchronous=reference == references[-1])
        store.update(reference)
        yield reference


class Actions:
    """Changes a store's source and then updates the store; made by `begin`.

    Each method returns what it did, and calls `tell` with each result as soon as it is done, also if the action
    fails later. Each raises what the source and the store raise.
    """

    def __init__(
        self,
        store: Store,
        source: Changeable,
        tell: Callable[[ActionResult], object] | None = None,
        unpin_pause: float = UNPIN_PAUSE,
    ) -> None:
        self._store = store
        self._source = source
        self._tell = tell
        self._unpin_pause = unpin_pause

    @classmethod
    def begin(cls, store: Store, tell: Callable[[ActionResult], object] | None = None) -> Actions:
        """Sync the store with its source, which must be one that can be changed, and return its actions.

        With a store that is out of date, a name could be removed that has moved to another image since, or an image
        reported as deleted that has a new name. References that cannot be read do not matter here. Raises
        ReadOnlySourceError, FailedPreconditionError for a store without a source, and as `sync` does.
        """
        source = require_changeable(require_source(store))
        sync(store)
        return cls(store, source, tell)

    def remove(self, name: str, *, force: bool = False) -> list[ActionResult]:
        """Remove an image: all its references, in their order, and the last one synchronously.

        `name` is a reference or an id, as `Reader.find` takes it. Raises ImageNotFoundError, and
        ImagePinnedError for a pinned image unless `force` is set.
        """
        image = self._store.find(name)
        if image.pinned and not force:
            raise ImagePinnedError(f"image {image.id} is pinned; unpin it first, or force its removal")
        outcomes = self._untag(image.references)
        self._tell_if_deleted(image.id, outcomes)
        return outcomes

    def untag(self, name: str, *, force: bool = False) -> list[ActionResult]:
        """Remove one reference, and the image with its last one; its image need not be readable.

        Raises ImageNotFoundError, and ImagePinnedError if the reference pins its image unless `force` is set.
        """
        record = self._record(name)
        if record.pinned and not force:
            raise ImagePinnedError(
                f"{printable(record.reference)} pins its image; unpin it first, or force it"
            )
        image_id = None
        with suppress(ImageNotFoundError):  # the store may not have been able to read it
            image_id = self._store.resolve(record.reference)
        outcomes = self._untag([record.reference])
        if image_id:
            self._tell_if_deleted(image_id, outcomes)
        return outcomes

    def pin(self, name: str, *, all_references: bool = False) -> list[ActionResult]:
        """Pin one reference, or all of its image; raises ImageNotFoundError.

        With `all_references`, `name` is as for `remove`.
        """
        outcomes: list[ActionResult] = []
        for reference in self._references(name, all_references=all_references):
            self._source.pin(reference)
            self._store.update(reference)
            self._note(outcomes, ActionResult(Action.PINNED, reference))
        return outcomes

    def unpin(self, name: str, *, all_references: bool = False) -> list[ActionResult]:
        """Unpin one reference, or all of its image, and look again whether they stay so; `name` as for `pin`.

        Raises ImagePinnedError if a reference is pinned again, as by containerd's configuration.
        """
        references = self._references(name, all_references=all_references)
        for reference in references:
            self._source.unpin(reference)
            self._store.update(reference)
        time.sleep(self._unpin_pause)
        outcomes: list[ActionResult] = []
        pinned_again = []
        for reference in references:
            if self._is_pinned_again(reference):
                pinned_again.append(reference)
            else:
                self._note(outcomes, ActionResult(Action.UNPINNED, reference))
        if pinned_again:
            raise ImagePinnedError(
                f"{printable(', '.join(pinned_again))}: pinned again at once; containerd's configuration pins it "
                "(see pinned_images, or sandbox_image)"
            )
        return outcomes

    def _is_pinned_again(self, reference: str) -> bool:
        """Return whether a reference that was unpinned is pinned; the store then follows once more."""
        try:
            pinned = self._source.get(reference).pinned
        except ImageNotFoundError:  # removed meanwhile
            return False
        if pinned:
            self._store.update(reference)
        return pinned

    def _references(self, name: str, *, all_references: bool) -> Sequence[str]:
        return self._store.find(name).references if all_references else (self._record(name).reference,)

    def _untag(self, references: Sequence[str]) -> list[ActionResult]:
        outcomes: list[ActionResult] = []
        for reference in remove_references(self._store, self._source, references):
            self._note(outcomes, ActionResult(Action.UNTAGGED, reference))
        return outcomes

    def _tell_if_deleted(self, image_id: str, outcomes: list[ActionResult]) -> None:
        """Report the image as deleted, unless it still has a reference or got a new one."""
        try:
            self._store.get(image_id)
        except ImageNotFoundError:
            self._note(outcomes, ActionResult(Action.DELETED, image_id))

    def _note(self, outcomes: list[ActionResult], outcome: ActionResult) -> None:
        outcomes.append(outcome)
        if self._tell:
            self._tell(outcome)

    def _record(self, name: str) -> ImageRecord:
        """Return the source's record of a reference as given, else in its canonical form."""
        try:
            return self._source.get(name)
        except ImageNotFoundError:
            try:
                canonical = str(parse_docker_ref(name))
            except InvalidReferenceError:
                canonical = name
            if canonical == name:
                raise
            return self._source.get(canonical)
