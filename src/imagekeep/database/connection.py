"""Opens connections to a store's file.

Every connection is opened here, and none survives a fork (imagekeep.forks): a short-lived one delays the fork until
it is closed, and one that is kept is closed before the fork (imagekeep.database.kept).
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

from imagekeep import forks
from imagekeep.database.driver import BUSY_WAIT, DRIVER_ERRORS, sqlite, translate
from imagekeep.database.files import file_id, file_id_of, look
from imagekeep.database.hot_journal import is_interrupted, require_rolled_back_by_owner
from imagekeep.database.trusted_files import require_trusted
from imagekeep.errors import (
    FailedPreconditionError,
    ImagekeepError,
    printable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.files import FileId, Named

JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes to which a checkpoint truncates the -wal file; otherwise it would stay as large as the largest sync."""


def _views_work_untrusted() -> bool:
    """Return whether a view of an untrusted schema may call a JSON function; in SQLite 3.40 it may not."""
    with contextlib.closing(sqlite.connect(":memory:")) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("CREATE VIEW lists AS SELECT json_array()")
        try:
            connection.execute("SELECT * FROM lists")
        except sqlite.OperationalError:
            return False
    return True


READER_PRAGMAS = (
    # No view or trigger of a forged file can call a function with side effects.
    *(("PRAGMA trusted_schema = OFF",) if _views_work_untrusted() else ()),
    "PRAGMA cell_size_check = ON",  # notice a damaged page when it is read
)

WRITER_PRAGMAS = (
    "PRAGMA foreign_keys = ON",  # the invariants are constraints, and SQLite's default is off
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
        """End this activity when the connection is closed."""
        self.path, self._activity = path, activity
        _open_connections.add(self)

    def allow_forks(self) -> None:
        """Stop delaying forks; the caller closes the connection before each."""
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

    It begins no transaction by itself, and another thread than the one that uses it may close it. SQLite's own
    `mode=ro` keeps a reader from writing. `store` is what `look` has found at the path. Raises as
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
        connection = _open(path, "ro" if read_only else "rw", READER_PRAGMAS if read_only else WRITER_PRAGMAS)
    except BaseException as error:
        forks.end_activity(activity)
        if isinstance(error, DRIVER_ERRORS):
            raise translate(error, path) from error
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
    """Close what the forking thread has open; the other threads have finished."""
    for connection in tuple(_open_connections):
        connection.close()


def _refuse_inherited(prepared: bool) -> None:
    """Refuse the files of inherited connections to a child, which may not even close these."""
    if not prepared:
        _inherited.extend(_open_connections)
        _inherited_files.update(file_id(connection.path) for connection in _open_connections)


forks.register(before=_close_all, after_in_child=_refuse_inherited)


def roll_back(path: Path) -> None:
    """Let SQLite roll back what a killed process began in rollback mode, which a reader cannot.

    If this user may not write there, the reader's own error says so. Root does not do it for another user: raises
    StoreUnavailableError.
    """
    require_rolled_back_by_owner(path)
    with contextlib.suppress(ImagekeepError), contextlib.closing(connect(path)):
        pass  # opening to write puts the file into WAL mode, which rolls it back first
