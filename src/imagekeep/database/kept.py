"""Connections that stay open between uses.

A kept connection is closed, and opened again at its next use, when the process forks and when the path no longer
names the files that it has open: a store may be moved, restored or deleted, its -wal file removed, or its locks
dropped by another copy of SQLite in this process. Readers check this every CHECK_INTERVAL seconds and after each
error, writers before and after each transaction.

Reading takes no lock. The thread that reads sets `busy` and then reads `check_at`; the thread that wants to
close the connection sets `check_at` to 0 and then waits until `busy` is false. One of the two always sees the
other.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Final

from imagekeep import forks
from imagekeep.database import statements
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite, translating
from imagekeep.database.files import StoreFiles, file_id_of, has_lost_wal, identify
from imagekeep.database.lock import WRITER_WAIT, shared_lock, writer_lock
from imagekeep.database.revision import (
    current_revision,
    find_store,
    read_schema,
    require_current,
    require_head,
)
from imagekeep.errors import (
    FailedPreconditionError,
    ImagekeepError,
    StoreReplacedError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.connection import StoreConnection

CHECK_INTERVAL: Final = 0.05
"""Seconds between a reader's checks that its files are still the store's; a check takes 5 µs."""

NEVER: Final = float("inf")

_TRIES: Final = 5
_NOTHING: Final = StoreFiles(None, None, None)

_generations = itertools.count(1)


class KeptConnection:
    """A connection to the store at `path`, and the files that it has open."""

    __slots__ = (
        "busy",
        "check_at",
        "connection",
        "cursor",
        "files",
        "forked",
        "generation",
        "owner",
        "path",
        "thread",
        "writes",
    )

    def __init__(self, path: Path, owner: object, *, writes: bool = False) -> None:
        self.path = path
        self.owner = owner
        self.writes = writes
        self.busy = False
        self.check_at = 0.0
        self.thread = threading.get_ident()
        self.generation = 0
        """Changes each time the connection is opened."""
        self.connection: StoreConnection | None = None
        self.cursor: sqlite.Cursor
        self.files = _NOTHING
        self.forked = False
        """Whether a fork closed the connection."""

    def open(self, name: Path | None = None) -> None:
        """Open the files that the path names now, inside an activity; errors call the path `name`.

        Raises StoreUnavailableError if there is no store, and as `connect`, `read_schema` and `require_current` do.
        """
        path = name or self.path
        store = find_store(path)
        if store is None:
            raise _gone(path) if name is None else missing(name)
        connection = connect(path, read_only=not self.writes, store=store)
        try:
            with translating(path):
                cursor = connection.cursor()
                require_current(read_schema(cursor, path), path)
            files = identify(path)
            if files.database != file_id_of(store.status):
                raise replaced(path)
        except BaseException:
            connection.close()
            raise
        self.connection, self.cursor, self.files = connection, cursor, files
        self.generation = next(_generations)
        self.forked = False
        _open_ones.add(self)
        connection.allow_forks()

    def close(self) -> None:
        """Close the connection if it is open; it may be opened again."""
        connection, self.connection = self.connection, None
        self.check_at = 0.0
        _open_ones.discard(self)
        if connection is not None:
            connection.close()

    def close_if_stuck(self) -> None:
        """Close the connection if an error left a transaction open: no other could begin."""
        if self.connection is not None and self.connection.in_transaction:
            self.close()

    def is_current(self) -> bool:
        """Return whether the connection is open on the files that the path names now.

        If only a -wal or -shm file is missing, a process that only reads keeps its connection: creating new ones
        would hide from a writer that its own are lost, with what only they hold.
        """
        if self.connection is None:
            return False
        found = identify(self.path)
        return found == self.files or (
            found.lacks_only_companions_of(self.files)
            and not any(kept.writes for kept in _those_of(self.path))
        )

    def save(self) -> bool:
        """Move the content of the -wal file into the database; return whether all of it was moved."""
        try:
            ((busy, pages, moved),) = self.cursor.execute(statements.CHECKPOINT).fetchall()
        except sqlite.Error:
            return False
        return not busy and pages == moved


class Guard:
    """Closes a connection when the last reference to this object goes, as when a thread ends."""

    __slots__ = ("_kept",)

    def __init__(self, kept: KeptConnection) -> None:
        self._kept = kept

    def __del__(self) -> None:
        if self._kept.connection is not None and not forks.unless_at_rest(self._kept.close):
            _dropped.append(self._kept)


_open_ones: set[KeptConnection] = set()
_dropped: list[KeptConnection] = []
"""Connections whose guard could not close them when it was finalized."""


@contextlib.contextmanager
def current(kept: KeptConnection, name: Path | None = None) -> Iterator[None]:
    """Keep a connection open on the files that the path names, and delay forks, until the context ends.

    A connection that writes needs the writers' lock. Raises StoreReplacedError if the files change faster than they
    can be opened, and as `KeptConnection.open` does.
    """
    for _ in range(_TRIES):
        activity = forks.begin_activity()
        try:
            while _dropped:
                _dropped.pop().close()
            opens = kept.connection is None and not _has_outdated(kept.path)
            if opens:
                kept.open(name)
            if opens or kept.is_current():
                yield
                return
        finally:
            forks.end_activity(activity)
        close_outdated(kept.path, locked=kept.writes)
    raise replaced(kept.path)


@contextlib.contextmanager
def write_transaction(
    kept: KeptConnection, *, dry_run: bool = False, wait: float = WRITER_WAIT
) -> Iterator[sqlite.Cursor]:
    """Yield the cursor of a write transaction, which no other writer's overlaps; with `dry_run` roll it back.

    It begins as BEGIN IMMEDIATE: one that begins deferred and writes later fails with "locked", whatever the
    timeout, if another has committed in between. The revision is read each time, because another process may have
    migrated the store. Raises StoreReplacedError if the path names another file at the end, StoreBusyError, and
    as `current` and `translate` do.
    """
    with writer_lock(kept.path, wait), current(kept), translating(kept.path):
        connection, cursor, files = kept.connection, kept.cursor, kept.files
        try:
            cursor.execute(statements.BEGIN_IMMEDIATE)
            require_head(current_revision(cursor), kept.path)
            yield cursor
            cursor.execute(statements.ROLLBACK if dry_run else statements.COMMIT)
        except BaseException as error:
            with contextlib.suppress(sqlite.Error):
                cursor.execute(statements.ROLLBACK)
            if kept.connection is not connection:  # by a fork or a read of this thread
                raise (forked if kept.forked else replaced)(kept.path) from error
            kept.close_if_stuck()
            raise
        # A fork after the commit, as in a signal handler, has moved everything into the database.
        stayed = kept.forked and identify(kept.path).database == files.database
        if not stayed and not kept.is_current():
            raise replaced(kept.path)


def close_those_of(owner: object) -> None:
    """Close the connections of one owner, after waiting for the threads that use them.

    Closing a connection in the middle of a statement crashes the process.
    """
    mine = sorted((kept for kept in tuple(_open_ones) if kept.owner is owner), key=attrgetter("writes"))
    for kept in mine:
        if kept.writes and not kept.is_current():
            with contextlib.suppress(ImagekeepError):
                close_outdated(kept.path)
    with forks.at_rest():
        _wait_for(mine)
        for kept in mine:
            kept.close()


def close_outdated(path: Path, *, locked: bool = False) -> None:
    """Close this process's connections to a store whose path names other files by now.

    What only a -wal file without a name holds is saved first, under the writers' lock unless the caller has it.
    Raises StoreReplacedError if another reader prevents that, and as `writer_lock` does.
    """
    saves = any(kept.writes and has_lost_wal(path, kept.files) for kept in _those_of(path))
    with writer_lock(path) if saves and not locked else contextlib.nullcontext(), forks.at_rest():
        connections = _those_of(path)
        _wait_for(connections)
        if not _save(path, connections):
            raise replaced(path)
        _close(path, connections)


def _save(path: Path, connections: list[KeptConnection]) -> bool:
    """Save what only lost -wal files hold; return whether all of it is in the database."""
    return all(kept.save() for kept in connections if kept.writes and has_lost_wal(path, kept.files))


def _close(path: Path, connections: list[KeptConnection]) -> None:
    """Close all of this process's kept connections to a path.

    SQLite's last connection to close moves its -wal file into the database and removes it by name. If that -wal
    or -shm file is no longer the store's, this would destroy what others have written since; a shared lock keeps
    SQLite from taking the connection for the last.
    """
    found = identify(path)
    stale = any(
        kept.writes and kept.files.database == found.database and kept.files != found for kept in connections
    )
    with shared_lock(path) if stale else contextlib.nullcontext():
        for kept in connections:
            kept.close()


def missing(path: Path) -> StoreUnavailableError:
    """Return the error for a store that does not exist."""
    return StoreUnavailableError(f"no store at {printable(path)} (`imagekeep sync` creates one)")


def _gone(path: Path) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"store {printable(path)}: no such file (it was moved or deleted; put it back, or sync again)"
    )


def replaced(path: Path) -> StoreReplacedError:
    """Return the error for a store that was replaced while it was in use."""
    return StoreReplacedError(
        f"store {printable(path)}: moved, replaced or deleted while it was in use (retry)"
    )


def forked(path: Path) -> FailedPreconditionError:
    """Return the error for a write transaction in which its own thread forked the process."""
    return FailedPreconditionError(
        f"store {printable(path)}: the process forked during a write (nothing was written; fork before or after)"
    )


def _has_outdated(path: Path) -> bool:
    """Return whether a connection has other files open than a new one would: SQLite would mix them."""
    files = {kept.files for kept in tuple(_open_ones) if kept.path == path}
    return bool(files) and files != {identify(path)}


def _those_of(path: Path) -> list[KeptConnection]:
    return [kept for kept in _all() if kept.path == path]


def _all() -> list[KeptConnection]:
    """Return the open connections, those that write last, because only they remove the -wal file."""
    return sorted(_open_ones, key=attrgetter("writes"))


def _wait_for(connections: list[KeptConnection]) -> None:
    """Wait until no other thread uses these connections; none begins to, because all is at rest or closed."""
    for kept in connections:
        kept.check_at = 0.0
    me, deadline = threading.get_ident(), monotonic() + forks.WAIT
    for kept in connections:
        if kept.thread != me:
            forks.wait_until(lambda kept=kept: not kept.busy, deadline)  # type: ignore[misc]


def _close_all() -> None:
    """Close every connection before a fork."""
    connections = _all()
    _wait_for(connections)
    for path in {kept.path for kept in connections}:
        of_path = [kept for kept in connections if kept.path == path]
        _save(path, of_path)
        _close(path, of_path)
    for kept in connections:
        kept.forked = True


def _forget_inherited(prepared: bool) -> None:
    """Forget, in a child, the parent's connections that were not closed before the fork."""
    if not prepared:
        for kept in tuple(_open_ones):
            kept.connection, kept.check_at = None, 0.0
        _open_ones.clear()


forks.register(before=_close_all, after_in_child=_forget_inherited)
