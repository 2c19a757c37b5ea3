"""Opens connections to a store's file, and says what SQLite's errors mean.

Every connection is made here, and none survives a fork (imagekeep.forks): a short-lived one delays the fork until
it is closed, and one that is kept is closed ahead of the fork (imagekeep.database.kept).
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING

from imagekeep import forks
from imagekeep.database.driver import sqlite
from imagekeep.database.hot_journal import (
    has_foreign_journal,
    is_interrupted,
    require_rolled_back_by_owner,
)
from imagekeep.database.identity import file_id, file_id_of
from imagekeep.database.row_types import MistypedRowError
from imagekeep.database.trusted_files import look, require_trusted
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    ImagekeepError,
    NotAStoreError,
    PermissionDeniedError,
    StoreBusyError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.identity import FileId
    from imagekeep.database.trusted_files import Named

BUSY_WAIT = 5.0
"""Seconds that SQLite itself waits for a lock. imagekeep's writers queue on a lock of their own before they
come here, so this is for other programs: a `sqlite3` shell that writes, or the recovery after a crash."""

JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes that the -wal file keeps after a checkpoint; without it a large sync leaves its high-water mark."""


def _views_work_untrusted() -> bool:
    """Return whether a view may call a JSON function of an untrusted schema.

    SQLite 3.40 takes its own JSON functions for unsafe there, so that the views would fail.
    """
    with contextlib.closing(sqlite.connect(":memory:")) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("CREATE VIEW lists AS SELECT json_array()")
        try:
            connection.execute("SELECT * FROM lists")
        except sqlite.OperationalError:
            return False
    return True


READER_PRAGMAS = (
    # Views and triggers of a doctored file call no function with side effects.
    *(("PRAGMA trusted_schema = OFF",) if _views_work_untrusted() else ()),
    "PRAGMA cell_size_check = ON",  # a damaged page is found when it is read, rather than followed
)

WRITER_PRAGMAS = (
    "PRAGMA foreign_keys = ON",  # the invariants are constraints, and this is off in every new connection
    "PRAGMA synchronous = FULL",  # NORMAL under WAL may lose the last commits at a power cut
    "PRAGMA journal_mode = WAL",  # readers never wait for the writer; an export that is opened again lacks it
    f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}",
    *READER_PRAGMAS,
)


class StoreConnection(sqlite.Connection):
    """A connection that delays forks until it is closed, or until `allow_forks` is called."""

    path: Path
    _activity: object = None

    def begin(self, path: Path, activity: object) -> None:
        """Take over an activity that ends with this connection."""
        self.path, self._activity = path, activity
        _open_connections.add(self)

    def allow_forks(self) -> None:
        """Delay no fork any longer, for one who closes the connection ahead of each."""
        forks.end_activity(self._activity)

    def close(self) -> None:
        """Close the connection; closing it twice does nothing."""
        super().close()
        _open_connections.discard(self)
        self.allow_forks()

    def __del__(self) -> None:
        self.allow_forks()


_open_connections: weakref.WeakSet[StoreConnection] = weakref.WeakSet()
_inherited: list[StoreConnection] = []
_inherited_files: set[FileId | None] = set()


def connect(path: Path, *, read_only: bool = False, store: Named | None = None) -> StoreConnection:
    """Open an existing store's file; the caller closes the connection.

    The connection begins no transaction by itself, and may be closed by another thread than the one that uses
    it. SQLite's own `mode=ro` keeps a reader from writing. `store` is what `look` has found at the path. Raises as
    `require_trusted` does, and the errors of `translate`.
    """
    store = store or look(str(path))
    if _inherited_files and store is not None and file_id_of(store.status) in _inherited_files:
        raise FailedPreconditionError(
            f"store {printable(path)}: open when this process was forked by a program that does not run Python's "
            "hooks (open it after the fork; in uWSGI, set lazy-apps)"
        )
    companions = require_trusted(path, store, writing=not read_only)
    if read_only and "journal" in companions and is_interrupted(path):
        roll_back(path)
    activity = forks.begin_activity()
    try:
        with translating(path):
            connection = _open(
                path, "ro" if read_only else "rw", READER_PRAGMAS if read_only else WRITER_PRAGMAS
            )
    except BaseException:
        forks.end_activity(activity)
        raise
    connection.begin(path, activity)
    return connection


def _open(path: Path, mode: str, pragmas: tuple[str, ...]) -> StoreConnection:
    connection = sqlite.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_WAIT,
        isolation_level=None,
        check_same_thread=False,
        factory=StoreConnection,
    )
    try:
        for pragma in pragmas:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _close_all() -> None:
    """Close, ahead of a fork, what the forking thread itself has open; other threads have been waited for."""
    for connection in tuple(_open_connections):
        connection.close()


def _refuse_inherited(prepared: bool) -> None:
    """Keep a child from the files whose connections it inherited; even to close those is not allowed there."""
    if not prepared:
        _inherited.extend(_open_connections)
        _inherited_files.update(file_id(connection.path) for connection in _open_connections)


forks.register(before=_close_all, after_in_child=_refuse_inherited)


def roll_back(path: Path) -> None:
    """Let SQLite undo what was begun in rollback mode by a process that was killed: a reader may not.

    Where this user may not write there, it is left to the reader's own error to say so. Root does not do it for
    another user. Raises StoreUnavailableError then.
    """
    require_rolled_back_by_owner(path)
    with contextlib.suppress(ImagekeepError), contextlib.closing(connect(path)):
        pass  # putting the file into WAL mode, as every opening to write does, reads it, and so undoes it


@contextlib.contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise what SQLite raises inside as an error of ours that names the file."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error, path) from error


DriverError = sqlite.Error | UnicodeDecodeError

DRIVER_ERRORS = (sqlite.Error, UnicodeDecodeError)
"""What the driver raises; the second for text that is no UTF-8, where not even its message about that is."""


def translate(error: sqlite.Error | UnicodeDecodeError, path: Path) -> ImagekeepError:
    """Return the error of ours that says what SQLite's error means for the store at `path`.

    The categories follow SQLite's primary result codes (https://sqlite.org/rescode.html). The driver's own
    errors have none: they are about how it is used, or about text that is no UTF-8, which they would quote.
    """
    if isinstance(error, MistypedRowError):
        return damaged_row(path)
    if not hasattr(error, "sqlite_errorcode") and isinstance(
        error, sqlite.OperationalError | UnicodeDecodeError
    ):
        return CorruptStoreError(
            f"store {printable(path)}: it holds text that is not UTF-8; restore a backup, or remove it and sync "
            "again"
        )
    primary = getattr(error, "sqlite_errorcode", sqlite.SQLITE_MISUSE) & 0xFF
    kind, advice = _MEANINGS.get(primary, _MISUSE)
    if primary == sqlite.SQLITE_CANTOPEN and _is_unreadable(path):
        kind = PermissionDeniedError
        advice = (
            "not readable by this user; give read permission, or to a copy that `imagekeep db export` makes"
        )
    if primary == sqlite.SQLITE_READONLY and has_foreign_journal(path):
        advice = "the -journal file beside it is not imagekeep's; find out what it is, and move it away"
    return kind(f"store {printable(path)}: {advice} ({error})")


def _is_unreadable(path: Path) -> bool:
    """Return whether the file itself is there and not this user's to read, which SQLite does not say apart."""
    there, readable = (os.access(path, mode, effective_ids=True) for mode in (os.F_OK, os.R_OK))
    return there and not readable


def damaged_row(path: Path) -> CorruptStoreError:
    """Return the error for a row whose values are not of its columns' types, which only a damaged file has."""
    return CorruptStoreError(
        f"store {printable(path)}: a row does not have the types of its columns; restore a backup, or remove it "
        "and sync again"
    )


_MISUSE: tuple[type[ImagekeepError], str] = (FailedPreconditionError, "not usable; was it closed?")

_READ_A_COPY = "who may not write there reads a copy that `imagekeep db export` makes"

_MEANINGS: dict[int, tuple[type[ImagekeepError], str]] = {
    sqlite.SQLITE_ERROR: (
        CorruptStoreError,
        "its tables are not as its revision says; see `imagekeep db check`",
    ),
    sqlite.SQLITE_PERM: (
        PermissionDeniedError,
        "no permission; check the owner and mode of file and directory",
    ),
    sqlite.SQLITE_BUSY: (StoreBusyError, f"another program held it for more than {BUSY_WAIT:g} s; try again"),
    sqlite.SQLITE_LOCKED: (StoreBusyError, "another connection of this process holds it; try again"),
    sqlite.SQLITE_NOMEM: (StoreUnavailableError, "out of memory"),
    sqlite.SQLITE_READONLY: (
        StoreUnavailableError,
        f"the file or its directory is read-only; {_READ_A_COPY}",
    ),
    sqlite.SQLITE_INTERRUPT: (
        StoreUnavailableError,
        "a read took too long, on a schema that is not imagekeep's; see `imagekeep db check`",
    ),
    sqlite.SQLITE_IOERR: (
        StoreUnavailableError,
        "the disk failed or is full; nothing was changed; free some space, or see the system's log",
    ),
    sqlite.SQLITE_CORRUPT: (
        CorruptStoreError,
        "the file is damaged; restore a backup, or remove it and sync again",
    ),
    sqlite.SQLITE_FULL: (
        StoreUnavailableError,
        "the disk is full; nothing was changed; free some space and try again",
    ),
    sqlite.SQLITE_CANTOPEN: (
        StoreUnavailableError,
        f"cannot open it, or its -wal and -shm files beside it; {_READ_A_COPY}",
    ),
    sqlite.SQLITE_PROTOCOL: (StoreBusyError, "too many programs opened it at once; try again"),
    sqlite.SQLITE_CONSTRAINT: (CorruptStoreError, "a constraint of the schema refused the change"),
    sqlite.SQLITE_NOTADB: (NotAStoreError, "not a SQLite database; give another path, or move the file away"),
}
