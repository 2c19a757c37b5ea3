"""Reads a store, without its source.

Each thread keeps its own read-only connection (imagekeep.database.readers). Each method is one read transaction: it
sees one state whatever writers do, and no writer waits for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from imagekeep.database import queries, status
from imagekeep.database.driver import DRIVER_ERRORS
from imagekeep.database.readers import ReadConnections
from imagekeep.database.revision import HEAD
from imagekeep.errors import (
    AmbiguousError,
    ImageNotFoundError,
    InvalidArgumentError,
)
from imagekeep.paths import store_path
from imagekeep.platform import ALL_PLATFORMS, name_of

if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from imagekeep.database.presence import LookTimes
    from imagekeep.database.queries import Counts, HistoryEntry
    from imagekeep.identity import StoreIdentity
    from imagekeep.image import Image, ImageSummary
    from imagekeep.platform import Platform
    from imagekeep.platform_content import TargetPlatform
    from imagekeep.transition import ReferenceState
    from imagekeep.usage import Container, ImageUsage
    from imagekeep.watcher_status import IncompleteReference, WatcherState


Answer = TypeVar("Answer")


class Reader:
    """Reads a store; opened by `Reader.open`, closed by `close` or as a context manager.

    Threads and forked children can share it. If the store's file is moved, replaced or deleted, it reads the
    store now at the path, or raises StoreUnavailableError. Do not open the file with another SQLite library in
    the same process, such as the standard library's `sqlite3` beside pysqlite3: closing it drops the locks of
    this one (https://sqlite.org/howtocorrupt.html, 2.2).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._platform: str | None = None  # the store's first
        self._connections = ReadConnections(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, platform: Platform | str | None = None) -> Self:
        """Open an existing store read-only; a relative path stays valid if the process changes its directory.

        Questions are about `platform` by default, or else about the store's first. Raises InvalidArgumentError for
        SQLite's `:memory:` and URIs, InvalidPlatformError, StoreUnavailableError if there is no store,
        NotAStoreError for another file, and SchemaVersionError for an older or newer schema.
        """
        reader = cls(store_path(path))
        reader._platform = None if platform is None else name_of(platform)
        try:
            reader._connections.open(path if isinstance(path, Path) else Path(path))
        except BaseException:
            reader.close()
            raise
        return reader

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}, revision {HEAD}>"

    def close(self) -> None:
        """Close the connections of every thread."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def kept_platforms(self) -> builtins.list[str]:
        """Return the specifiers of the platforms that the store keeps, its first one first.

        Empty until the first update; with `*` the store keeps every platform whose content the source has.
        """
        found = self._connections.ask(queries.platforms)
        return [platform.name for platform in found if platform.name is not None]

    def resolve(self, reference: str, platform: Platform | str | None = None) -> str:
        """Return the image id of a reference, spelt exactly so (containerd: Store.Resolve).

        `platform`, here and below, is by default the store's first. Raises ImageNotFoundError, also for a platform
        that the store does not keep, and InvalidPlatformError.
        """
        wanted = self._name_of(platform)
        kept = self._connections.acquire()
        try:
            image_id = queries.find_reference(kept.cursor, reference, wanted)
        except DRIVER_ERRORS:
            image_id = self._connections.ask(queries.find_reference, reference, wanted)
        finally:
            kept.busy = False
        if image_id is None:
            raise queries.no_such_image(reference)
        return image_id

    def get(self, image_id: str, platform: Platform | str | None = None) -> Image:
        """Return the image with a full or truncated id, with or without its algorithm (containerd: Store.Get).

        Only images for the platform are considered. Raises ImageNotFoundError, AmbiguousError with the candidates,
        or InvalidArgumentError for an empty id.
        """
        return self._connections.ask(queries.find_image, image_id, self._name_of(platform))

    def find(self, name: str, platform: Platform | str | None = None) -> Image:
        """Return the image with a name as people write it.

        The name is tried as a reference spelt exactly so, a full id, a reference in any spelling, and a truncated
        id, in that order and in one snapshot. Raises as `get` does.
        """
        return self._connections.ask(queries.find_by_name, name, self._name_of(platform))

    def is_pinned(self, image_id: str, reference: str, platform: Platform | str | None = None) -> bool:
        """Return whether a reference pins the image with a full or truncated id (containerd: store.isPinned).

        False if no image or more than one has this id.
        """
        try:
            return self._connections.ask(queries.is_pinned, image_id, reference, self._name_of(platform))
        except (ImageNotFoundError, AmbiguousError, InvalidArgumentError):
            return False

    def iter(self, platform: Platform | str | None = None) -> Iterator[Image]:
        """Yield every image of one state of the store, in the order of ids, in constant memory.

        Other methods may be called meanwhile. If the process forks or the store is replaced, iteration continues
        after the last id, in the state of that time.
        """
        return self._connections.each_image(self._name_of(platform))

    def summaries(self, platform: Platform | str | None = None) -> builtins.list[ImageSummary]:
        """Return every image without its config document, in the order of ids."""
        return self._connections.ask(queries.all_summaries, self._name_of(platform))

    def references(self, platform: Platform | str | None = None) -> builtins.list[str]:
        """Return every reference, in no particular order."""
        return self._connections.ask(queries.all_references, self._name_of(platform))

    def states(self, platform: Platform | str | None = None) -> dict[str, ReferenceState]:
        """Return the state of every reference."""
        return self._connections.ask(queries.all_states, self._name_of(platform))

    def platforms(self, reference: str) -> builtins.list[TargetPlatform]:
        """Return each platform of a reference's target, in the order of its index and without attestations.

        The target is the one that the source last reported. The list is empty if the store has not read it yet.
        Raises ImageNotFoundError.
        """
        from imagekeep.database.platform_content import platforms_of  # few programs ask

        return self._connections.ask(platforms_of, reference)

    def history(self, reference: str) -> builtins.list[HistoryEntry]:
        """Return every change to a reference, spelt exactly so, oldest first."""
        try:
            return self._connections.ask(queries.history_of, reference)
        except UnicodeEncodeError:  # no row has a name with a lone surrogate
            return []

    def counts(self) -> Counts:
        """Return the numbers of images, references and pins, and when the source last confirmed them."""
        return self._connections.ask(queries.count)

    def incomplete(self) -> builtins.list[IncompleteReference]:
        """Return the references at the source whose images could not be read, ordered by name."""
        return self._connections.ask(status.incomplete_references)

    def containers(self) -> builtins.list[Container]:
        """Return the containers of the source, as last observed, in the order of ids.

        Empty if the source has none, has no such thing, or was not asked; `look_times` tells which.
        """
        from imagekeep.database.usage import all_containers  # few programs ask

        return self._connections.ask(all_containers)

    def usage(self, image_id: str, platform: Platform | str | None = None) -> ImageUsage:
        """Return when the image with a full or truncated id was used, and by which containers; raises as `get`."""
        from imagekeep.database.usage import find_usage
        from imagekeep.times import timestamp

        return self._connections.ask(find_usage, image_id, self._name_of(platform), timestamp())

    def look_times(self) -> LookTimes:
        """Return when the source was last asked what it has besides references."""
        from imagekeep.database.presence import look_times

        return self._connections.ask(look_times)

    def watcher(self) -> WatcherState | None:
        """Return the status of the last watcher, or None if there was none."""
        return self._connections.ask(status.watcher_state)

    def identity(self) -> StoreIdentity:
        """Return the store's id and the source that it follows."""
        return self._connections.ask(status.identity)

    def is_watched(self) -> bool:
        """Return whether a watcher runs now, in any PID namespace.

        Raises PermissionDeniedError or StoreUnavailableError if the lock file cannot be opened.
        """
        from imagekeep.database.lock import is_watched  # short commands never need it

        return is_watched(self.path)

    def list(self, platform: Platform | str | None = None) -> builtins.list[Image]:
        """Return every image, in the order of ids (containerd: Store.List).

        With `platform="*"` the images for every platform that the store keeps; their `platform` says which.
        """
        if platform == ALL_PLATFORMS:
            return self._connections.ask(queries.images_of_all_platforms)
        return self._connections.ask(queries.all_images, self._name_of(platform))

    def _name_of(self, platform: Platform | str | None) -> str | None:
        """Return the name by which the store knows a platform; None for its first."""
        return self._platform if platform is None else name_of(platform)


def ask(reader: Reader, query: Callable[..., Answer], *arguments: object) -> Answer:
    """Return the answer of `query(cursor, *arguments)` in one read transaction; it may be called again."""
    return reader._connections.ask(query, *arguments)  # noqa: SLF001 (of the class above; commands need no more)


def asked_platform(reader: Reader) -> str | None:
    """Return the name of the platform that a reader was opened for; None for the store's first."""
    return reader._platform  # noqa: SLF001 (as above)
