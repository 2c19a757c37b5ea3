"""Removes, pins and unpins images at the source, then updates the store.

::

    actions = Actions.begin(store, on_result=print)
    actions.remove("busybox:1.36")          # the image with all its references
    actions.untag("example.test/app:v1")    # only this reference
    actions.pin("busybox:1.35")

An action changes the source and then updates the store from it (`Store.update`). The store is therefore right
even if others change the source at the same time, and never ahead of a source that fails.
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
"""Seconds before an unpinned reference is checked again. containerd's CRI plugin repins the images in its
configuration (`pinned_images`, `sandbox`) some milliseconds later, when it receives the event."""


class Action(enum.StrEnum):
    """What was done to a reference, or, if DELETED, to an image."""

    UNTAGGED = "untagged"
    DELETED = "deleted"
    PINNED = "pinned"
    UNPINNED = "unpinned"


class ActionResult(NamedTuple):
    """One change that an action made; `name` is a reference, or the id of a deleted image."""

    action: Action
    name: str


def remove_references(store: Store, source: Changeable, references: Sequence[str]) -> Iterator[str]:
    """Remove references at the source in order, the last synchronously; yield each once the store is updated.

    Ignores references that no longer exist (containerd: internal/cri/server/images, RemoveImage). Raises the
    errors of source and store.
    """
    for reference in references:
        with suppress(ImageNotFoundError):
            source.remove(reference, synchronous=reference == references[-1])
        store.update(reference)
        yield reference


class Actions:
    """Changes a store's source and then updates the store; made by `begin`.

    Each method returns its results, and calls `on_result` with each at once, even if the action fails later. Each
    raises the errors of source and store.
    """

    def __init__(
        self,
        store: Store,
        source: Changeable,
        on_result: Callable[[ActionResult], object] | None = None,
        unpin_pause: float = UNPIN_PAUSE,
    ) -> None:
        self._store = store
        self._source = source
        self._on_result = on_result
        self._unpin_pause = unpin_pause

    @classmethod
    def begin(cls, store: Store, on_result: Callable[[ActionResult], object] | None = None) -> Actions:
        """Sync the store from its source and return the actions for it.

        With an outdated store, an action could remove a name that has moved to another image, or report an image
        as deleted that has a new name. Ignores references that cannot be read. Raises ReadOnlySourceError,
        FailedPreconditionError for a store without a source, and as `sync` does.
        """
        source = require_changeable(require_source(store))
        sync(store)
        return cls(store, source, on_result)

    def remove(self, name: str, *, force: bool = False) -> list[ActionResult]:
        """Remove an image and all its references, in order, the last one synchronously.

        `name` is a reference or an id, as `Reader.find` takes it. Raises ImageNotFoundError, and
        ImagePinnedError for a pinned image unless `force` is set.
        """
        image = self._store.find(name)
        if image.pinned and not force:
            raise ImagePinnedError(f"image {image.id} is pinned (unpin it first, or force the removal)")
        results = self._untag(image.references)
        self._report_if_deleted(image.id, results)
        return results

    def prune(self, image_id: str, references: Sequence[str]) -> list[ActionResult]:
        """Remove these references of an image that nothing pins; raises ImagePinnedError if one does by now."""
        for reference in references:
            with suppress(ImageNotFoundError):  # removed meanwhile
                if self._source.get(reference).pinned:
                    raise ImagePinnedError(
                        f"{printable(reference)} pins its image now (nothing of it was removed)"
                    )
        results = self._untag(references)
        self._report_if_deleted(image_id, results)
        return results

    def untag(self, name: str, *, force: bool = False) -> list[ActionResult]:
        """Remove one reference, and its image with the last one; the image need not be readable.

        Raises ImageNotFoundError, and ImagePinnedError if the reference pins its image unless `force` is set.
        """
        record = self._record(name)
        if record.pinned and not force:
            raise ImagePinnedError(
                f"{printable(record.reference)} pins its image (unpin it first, or force the removal)"
            )
        image_id = None
        with suppress(ImageNotFoundError):  # missing if the store could not read it
            image_id = self._store.resolve(record.reference)
        results = self._untag([record.reference])
        if image_id:
            self._report_if_deleted(image_id, results)
        return results

    def pin(self, name: str, *, all_references: bool = False) -> list[ActionResult]:
        """Pin one reference, or all of its image; raises ImageNotFoundError.

        With `all_references`, `name` is as for `remove`.
        """
        results: list[ActionResult] = []
        for reference in self._references(name, all_references=all_references):
            self._source.pin(reference)
            self._store.update(reference)
            self._report(results, ActionResult(Action.PINNED, reference))
        return results

    def unpin(self, name: str, *, all_references: bool = False) -> list[ActionResult]:
        """Unpin one reference, or all of its image, and check that they stay unpinned; `name` as for `pin`.

        Raises ImagePinnedError if a reference is pinned again, as by containerd's configuration.
        """
        references = self._references(name, all_references=all_references)
        for reference in references:
            self._source.unpin(reference)
            self._store.update(reference)
        time.sleep(self._unpin_pause)
        results: list[ActionResult] = []
        pinned_again = []
        for reference in references:
            if self._is_pinned_again(reference):
                pinned_again.append(reference)
            else:
                self._report(results, ActionResult(Action.UNPINNED, reference))
        if pinned_again:
            raise ImagePinnedError(
                f"{printable(', '.join(pinned_again))}: pinned again by containerd's configuration "
                "(see pinned_images, or sandbox_image)"
            )
        return results

    def _is_pinned_again(self, reference: str) -> bool:
        """Return whether an unpinned reference is pinned again; update the store if so."""
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
        results: list[ActionResult] = []
        for reference in remove_references(self._store, self._source, references):
            self._report(results, ActionResult(Action.UNTAGGED, reference))
        return results

    def _report_if_deleted(self, image_id: str, results: list[ActionResult]) -> None:
        """Report the image as deleted, unless it still has a reference."""
        try:
            self._store.get(image_id)
        except ImageNotFoundError:
            self._report(results, ActionResult(Action.DELETED, image_id))

    def _report(self, results: list[ActionResult], result: ActionResult) -> None:
        results.append(result)
        if self._on_result:
            self._on_result(result)

    def _record(self, name: str) -> ImageRecord:
        """Return the source's record of a reference as spelt, else of its canonical form."""
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
