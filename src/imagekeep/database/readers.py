"""The connections through which a store is read: one for each thread, and one for each iterator."""

from __future__ import annotations

import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from imagekeep.database import queries, status
from imagekeep.database.driver import DRIVER_ERRORS, sqlite, translate
from imagekeep.database.kept import (
    CHECK_INTERVAL,
    NEVER,
    Guard,
    KeptConnection,
    close_those_of,
    current,
)
from imagekeep.database.revision import current_revision, require_head
from imagekeep.database.statements import BEGIN, COMMIT, ROLLBACK
from imagekeep.errors import FailedPreconditionError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.database.driver import DriverError
    from imagekeep.image import Image

Answer = TypeVar("Answer")


class ReadConnections:
    """Reads one store from any thread, and across forks; see imagekeep.database.kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = object()
        self._closed = False
        self._thread = threading.local()

    def close(self) -> None:
        """Close the connections of every thread."""
        self._closed = True
        close_those_of(self.owner)

    def require_open(self) -> None:
        """Raise FailedPreconditionError after `close`."""
        if self._closed:
            raise FailedPreconditionError(f"store {printable(self.path)}: it is closed") from None

    def open(self, name: Path) -> None:
        """Open this thread's connection; errors call the path `name`. Raises as `current` does."""
        kept = self._keep()
        with current(kept, name):
            kept.check_at = monotonic() + CHECK_INTERVAL

    def acquire(self) -> KeptConnection:
        """Return this thread's connection, kept open until the caller sets its `busy` to False.

        Raises as `current` does, and FailedPreconditionError after `close`.
        """
        try:
            kept: KeptConnection = self._thread.kept
        except AttributeError:
            kept = self._keep()
        kept.busy = True
        if monotonic() >= kept.check_at:
            self._mark_busy(kept, CHECK_INTERVAL)
        return kept

    def ask(self, query: Callable[..., Answer], *arguments: object) -> Answer:
        """Return a query's answer in one read transaction.

        The query is repeated if the process forked or the store was replaced meanwhile. Raises the errors of
        `translate`.
        """
        while True:  # like `_using`, without a closure for the most frequent call
            kept = self.acquire()
            generation = kept.generation
            try:
                return _in_snapshot(kept.cursor, query, *arguments)
            except DRIVER_ERRORS as error:
                self._raise_unless_outdated(kept, generation, error)
            finally:
                kept.busy = False

    def data_version(self) -> int:
        """Return a number that changes with every change that this thread can see, and with each opening."""
        return self._using(
            lambda kept: kept.generation << 32 | _in_snapshot(kept.cursor, queries.data_version)
        )

    def incarnation(self) -> tuple[object, str]:
        """Return the store's file and id; one of them changes if another store takes the path."""
        return self._using(
            lambda kept: (kept.files.database, _in_snapshot(kept.cursor, status.identity).store_id)
        )

    def require_current_schema(self) -> None:
        """Raise SchemaVersionError if another process has migrated the store."""
        self._using(self._require_head)

    def each_image(self, platform: str | None = None) -> Iterator[Image]:
        """Yield every image of one state of the store, in the order of ids.

        After a fork, or if the store is replaced, it continues after the last id with the state at that time.
        """
        kept = KeptConnection(self.path, self.owner)
        _closed_with_this = Guard(kept)
        images: Iterator[Image] = iter(())
        generation, last_id = 0, ""
        while True:
            kept.thread = threading.get_ident()
            self._mark_busy(kept, NEVER)
            try:
                if kept.generation != generation:
                    generation = kept.generation
                    kept.cursor.execute(BEGIN)
                    images = queries.each_image(kept.cursor, last_id, platform)
                image = next(images, None)
            except DRIVER_ERRORS as error:
                self._raise_unless_outdated(kept, generation, error)
                continue
            finally:
                kept.busy = False
            if image is None:
                return
            last_id = image.id
            yield image

    def _keep(self) -> KeptConnection:
        """Return a connection that this thread keeps while it lives."""
        kept: KeptConnection = KeptConnection(self.path, self.owner)
        self._thread.kept, self._thread.guard = kept, Guard(kept)
        return kept

    def _using(self, action: Callable[[KeptConnection], Answer]) -> Answer:
        while True:
            kept = self.acquire()
            generation = kept.generation
            try:
                return action(kept)
            except DRIVER_ERRORS as error:
                self._raise_unless_outdated(kept, generation, error)
            finally:
                kept.busy = False

    def _mark_busy(self, kept: KeptConnection, interval: float) -> None:
        """Keep a connection open until its `busy` is False; check its files if that is due."""
        kept.busy = True
        if monotonic() >= kept.check_at:
            kept.busy = False
            self.require_open()
            with current(kept):
                self._require_head(kept)
                kept.check_at = monotonic() + interval
                kept.busy = True

    def _require_head(self, kept: KeptConnection) -> None:
        """Raise SchemaVersionError if another process has migrated the store."""
        with contextlib.suppress(*DRIVER_ERRORS):  # the query that follows will say what is wrong
            require_head(current_revision(kept.cursor), self.path)

    def _raise_unless_outdated(self, kept: KeptConnection, generation: int, error: DriverError) -> None:
        """Raise imagekeep's error for the driver's, unless the connection has to be opened again."""
        if kept.generation == generation and kept.is_current():
            kept.close_if_stuck()
            raise translate(error, self.path) from error
        kept.check_at = 0.0


def _in_snapshot(cursor: sqlite.Cursor, query: Callable[..., Answer], *arguments: object) -> Answer:
    """Return a query's answer in a read transaction; ending it never hides why the query failed."""
    try:
        cursor.execute(BEGIN)
        answer = query(cursor, *arguments)
    except BaseException:
        with contextlib.suppress(sqlite.Error):
            cursor.execute(ROLLBACK)
        raise
    cursor.execute(COMMIT)
    return answer
