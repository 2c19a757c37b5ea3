"""Answers from a store's file alone: the verbs that read.

Each thread keeps a read-only connection of its own. Each verb is one read transaction, so that it sees one
state whatever writers do meanwhile, and holds no lock that a writer waits for. Nothing here imports SQLAlchemy,
for a command that only reads must start in a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from imagekeep.database import queries
from imagekeep.database.connection import DRIVER_ERRORS, connect, damaged_row, translate, translating
from imagekeep.database.lock import is_watched
from imagekeep.database.revision import exists, read_schema, require_current
from imagekeep.database.statements import BEGIN, COMMIT
from imagekeep.errors import (
    AmbiguousError,
    FailedPreconditionError,
    ImageNotFoundError,
    InvalidArgumentError,
    StoreUnavailableError,
    printable,
)
from imagekeep.paths import full_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from imagekeep.database.driver import sqlite
    from imagekeep.database.queries import Counts, HistoryEntry
    from imagekeep.image import Image, ImageSummary
    from imagekeep.transition import ReferenceState
    from imagekeep.watcher_status import IncompleteReference, WatcherState

    # Inside the class, `list` is the verb of that name.
    Images = list[Image]
    Summaries = list[ImageSummary]
    References = list[str]
    History = list[HistoryEntry]
    Incomplete = list[IncompleteReference]

Answer = TypeVar("Answer")


class Reader:
    """Reads a store; opened by `Reader.open`, closed by `close` or as a context manager.

    It may be used from many threads at once, and in a child after a fork.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._thread = threading.local()
        self._kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        _readers.add(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing store to read; a relative path stays that file where the process changes its directory.

        Raises StoreUnavailableError where there is none, NotAStoreError where the file is something else, and
        SchemaVersionError where its schema is older or newer than this imagekeep's.
        """
        file = Path(path)
        reader = cls(full_path(file))
        if not exists(file):
            raise StoreUnavailableError(f"no store at {printable(file)}; `imagekeep sync` makes one")
        try:
            with translating(file):
                require_current(read_schema(reader._cursor(), file), file)
        except BaseException:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        """Close the connections of every thread; the store answers no more."""
        self._closed = True
        for kept in tuple(self._kept):
            kept.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def resolve(self, reference: str) -> str:
        """Return the id of the image that `reference`, spelt exactly so, names (containerd: Store.Resolve).

        Raises ImageNotFoundError.
        """
        try:
            image_id = queries.find_reference(self._cursor(), reference)
        except DRIVER_ERRORS as error:
            raise translate(error, self.path) from error
        if image_id is None:
            raise queries.no_such_image(reference)
        return image_id

    def get(self, image_id: str) -> Image:
        """Return the image with this id, full or truncated, with or without its algorithm.

        Raises ImageNotFoundError, AmbiguousError with the candidates, or InvalidArgumentError for the empty id
        (containerd: Store.Get).
        """
        return self._in_snapshot(queries.find_image, image_id)

    def local_resolve(self, reference_or_id: str) -> Image:
        """Return the image that a full id, else a reference in any spelling, else a truncated id stands for.

        Raises as `get` does (containerd: internal/cri/server/images, LocalResolve).
        """
        return self._in_snapshot(queries.find_by_any_name, reference_or_id)

    def find(self, name: str) -> Image:
        """Return the image of a reference spelt exactly so, else as `local_resolve` does; raises as that."""
        try:
            return self.get(self.resolve(name))
        except ImageNotFoundError:
            return self.local_resolve(name)

    def is_pinned(self, image_id: str, reference: str) -> bool:
        """Return whether `reference` pins the image with this full or truncated id.

        False where the id is no one image's (containerd: store.isPinned).
        """
        try:
            return self._in_snapshot(queries.is_pinned, image_id, reference)
        except (ImageNotFoundError, AmbiguousError, InvalidArgumentError):
            return False

    def iter(self) -> Iterator[Image]:
        """Give every image of one state of the store, in the order of ids, in constant memory.

        It reads on a connection of its own, so that other verbs may be called meanwhile.
        """
        self._require_open()
        with translating(self.path), contextlib.closing(connect(self.path, read_only=True)) as connection:
            connection.execute(BEGIN)
            yield from queries.each_image(connection.cursor())

    def summaries(self) -> Summaries:
        """Return every image without its config, in the order of ids."""
        return self._in_snapshot(queries.all_summaries)

    def references(self) -> References:
        """Return every reference, in no particular order."""
        return self._in_snapshot(queries.all_references)

    def states(self) -> dict[str, ReferenceState]:
        """Return what the store says of every reference."""
        return self._in_snapshot(queries.all_states)

    def history(self, reference: str) -> History:
        """Return every change to a reference, spelt exactly so, the oldest first."""
        try:
            return self._in_snapshot(queries.history_of, reference)
        except UnicodeEncodeError:  # a name with a lone surrogate is in no row
            return []

    def counts(self) -> Counts:
        """Count images, references and pins, and say when a source last confirmed them."""
        return self._in_snapshot(queries.count)

    def incomplete(self) -> Incomplete:
        """Return the references that the source has and whose images could not be read, by name."""
        return self._in_snapshot(queries.incomplete_references)

    def watcher(self) -> WatcherState | None:
        """Return how far the last watcher of the source has come, or None where there was none."""
        return self._in_snapshot(queries.watcher_state)

    def is_watched(self) -> bool:
        """Return whether a watcher runs now, in whatever PID namespace.

        Raises PermissionDeniedError or StoreUnavailableError if the lock file cannot be opened.
        """
        return is_watched(self.path)

    def data_version(self) -> int:
        """Return a number that is another one once anybody has changed the store, seen from this thread.

        An answer that was made after it was read stays true as long as it does (SQLite: PRAGMA data_version).
        """
        return self._in_snapshot(queries.data_version)

    def list(self) -> Images:
        """Return every image, in the order of ids (containerd: Store.List)."""
        return self._in_snapshot(queries.all_images)

    def _in_snapshot(self, query: Callable[..., Answer], *names: str) -> Answer:
        """Return what a query answers in one read transaction."""
        try:
            cursor = self._cursor()
            cursor.execute(BEGIN)
            try:
                return query(cursor, *names)
            finally:
                cursor.execute(COMMIT)
        except DRIVER_ERRORS as error:
            raise translate(error, self.path) from error
        except (TypeError, AttributeError) as error:
            if not all(isinstance(name, str) for name in names):
                raise  # the caller's own
            raise damaged_row(self.path) from error

    def _cursor(self) -> sqlite.Cursor:
        """Return the cursor of this thread's connection, opening that where there is none yet."""
        try:
            return self._thread.kept.cursor  # type: ignore[no-any-return]
        except AttributeError:
            self._require_open()
            kept = self._thread.kept = _Kept(connect(self.path, read_only=True))
            self._kept.add(kept)
            return kept.cursor

    def _require_open(self) -> None:
        """Raise FailedPreconditionError once the store has been closed."""
        if self._closed:
            raise FailedPreconditionError(f"store {printable(self.path)}: it is closed") from None

    def forget_connections(self) -> None:
        """Leave the connections that there are to the parent, in a child after a fork."""
        abandon_connection(tuple(self._kept))
        self._thread = threading.local()
        self._kept = weakref.WeakSet()


class _Kept:
    """The connection that one thread keeps; it is closed with the thread."""

    def __init__(self, connection: sqlite.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()

    def __del__(self) -> None:
        self.connection.close()


_readers: weakref.WeakSet[Reader] = weakref.WeakSet()
_inherited: list[object] = []


def abandon_connection(connection: object) -> None:
    """Keep a connection that a forked child inherited from being closed, which SQLite forbids it."""
    _inherited.append(connection)


def _after_fork() -> None:
    """Let no reader of a forked child use its parent's connections."""
    for reader in _readers:
        reader.forget_connections()


os.register_at_fork(after_in_child=_after_fork)
