"""The one SQLite library that this process uses, and what its errors mean.

Two copies of the library that open one file in one process break its locks (POSIX locks belong to a process:
closing one copy's file drops the other's), so every module, and SQLAlchemy, takes `sqlite` from here.

The driver is pysqlite3 if it is installed, else the standard library's. pysqlite3 brings an SQLite newer than
3.51.2; up to that version two connections that write and checkpoint at once can corrupt a WAL file. The
environment variable IMAGEKEEP_SQLITE_DRIVER selects one of the two, to test both.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import TYPE_CHECKING

from imagekeep.database.hot_journal import has_foreign_journal
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
    import sqlite3 as sqlite
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "BUSY_WAIT",
    "DRIVER",
    "DRIVER_ERRORS",
    "OLDEST",
    "DriverError",
    "MistypedRowError",
    "damaged_row",
    "sqlite",
    "translate",
    "translating",
]

OLDEST = (3, 37, 0)
"""The first SQLite with STRICT tables."""

_MODULES = {"pysqlite3": "pysqlite3.dbapi2", "sqlite3": "sqlite3"}


def _choose() -> str:
    """Return the driver's name: the environment's choice, else pysqlite3 if it is installed."""
    asked = os.environ.get("IMAGEKEEP_SQLITE_DRIVER")
    if asked and asked not in _MODULES:
        raise FailedPreconditionError(f"IMAGEKEEP_SQLITE_DRIVER is {asked!r}; must be pysqlite3 or sqlite3")
    try:
        importlib.import_module(_MODULES[asked or "pysqlite3"])
    except ImportError as error:
        if asked:
            raise FailedPreconditionError(f"IMAGEKEEP_SQLITE_DRIVER is {asked}: {error}") from error
        return "sqlite3"
    return asked or "pysqlite3"


DRIVER = _choose()
"""The driver in use: `pysqlite3` or `sqlite3`."""

if not TYPE_CHECKING:
    sqlite = importlib.import_module(_MODULES[DRIVER])

if sqlite.sqlite_version_info < OLDEST:
    raise FailedPreconditionError(
        f"SQLite {sqlite.sqlite_version} ({DRIVER}) is too old: imagekeep needs 3.37; pip install pysqlite3"
    )

BUSY_WAIT = 5.0
"""Seconds that SQLite itself waits for a lock. imagekeep's writers queue on a lock of their own first, so this is
for other programs, such as a `sqlite3` shell that writes, and for the recovery after a crash."""


class MistypedRowError(sqlite.DatabaseError):
    """Raised for a row whose values do not have its columns' types; `translate` names the file."""


@contextlib.contextmanager
def translating(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as imagekeep's, which name the file."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error, path) from error


DriverError = sqlite.Error | UnicodeDecodeError

DRIVER_ERRORS = (sqlite.Error, UnicodeDecodeError)
"""What the driver raises; UnicodeDecodeError if even its message about text that is not UTF-8 cannot be decoded."""


def translate(error: sqlite.Error | UnicodeDecodeError, path: Path) -> ImagekeepError:
    """Return imagekeep's error for SQLite's, about the store at `path`.

    The categories follow SQLite's primary result codes (https://sqlite.org/rescode.html). The driver's own errors
    have no code: they are about its use, or about text that is not UTF-8, which they would quote.
    """
    if isinstance(error, MistypedRowError):
        return damaged_row(path)
    if not hasattr(error, "sqlite_errorcode") and isinstance(
        error, sqlite.OperationalError | UnicodeDecodeError
    ):
        return CorruptStoreError(
            f"store {printable(path)}: contains text that is not UTF-8; restore a backup, or remove it and sync "
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
    """Return whether the file exists and this user may not read it; SQLite has no code for that."""
    there, readable = (os.access(path, mode, effective_ids=True) for mode in (os.F_OK, os.R_OK))
    return there and not readable


def damaged_row(path: Path) -> CorruptStoreError:
    """Return the error for a row whose values do not have its columns' types: the file is damaged."""
    return CorruptStoreError(
        f"store {printable(path)}: a row does not have the types of its columns; restore a backup, or remove it "
        "and sync again"
    )


_MISUSE: tuple[type[ImagekeepError], str] = (FailedPreconditionError, "not usable; was it closed?")

_READ_A_COPY = "without write permission, read a copy made by `imagekeep db export`"

_MEANINGS: dict[int, tuple[type[ImagekeepError], str]] = {
    sqlite.SQLITE_ERROR: (
        CorruptStoreError,
        "its tables do not match its revision; see `imagekeep db check`",
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
