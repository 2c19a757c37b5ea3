"""The one SQLite that this process uses, chosen here and nowhere else.

Two copies of the SQLite library on one file in one process break its locks (POSIX locks belong to a process:
closing one copy's file drops the other's), so every module takes `sqlite` from here, SQLAlchemy's too.

The driver is pysqlite3 where it is installed (it brings its own SQLite, newer than 3.51.2, up to which two
connections that write and checkpoint at once can corrupt a WAL file), else the standard library's. The
environment variable IMAGEKEEP_SQLITE_DRIVER names one of the two, for tests of both.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from imagekeep.errors import FailedPreconditionError

if TYPE_CHECKING:
    import sqlite3 as sqlite

__all__ = ["DRIVER", "OLDEST", "sqlite"]

OLDEST = (3, 37, 0)
"""The first SQLite with STRICT tables."""

_MODULES = {"pysqlite3": "pysqlite3.dbapi2", "sqlite3": "sqlite3"}


def _choose() -> str:
    """Return the name of the driver: what the environment says, else the newer one that is installed."""
    asked = os.environ.get("IMAGEKEEP_SQLITE_DRIVER")
    if asked and asked not in _MODULES:
        raise FailedPreconditionError(f"IMAGEKEEP_SQLITE_DRIVER is {asked!r}; it may be pysqlite3 or sqlite3")
    try:
        importlib.import_module(_MODULES[asked or "pysqlite3"])
    except ImportError as error:
        if asked:
            raise FailedPreconditionError(f"IMAGEKEEP_SQLITE_DRIVER is {asked}: {error}") from error
        return "sqlite3"
    return asked or "pysqlite3"


DRIVER = _choose()
"""Which driver was chosen: `pysqlite3` or `sqlite3`."""

if not TYPE_CHECKING:
    sqlite = importlib.import_module(_MODULES[DRIVER])

if sqlite.sqlite_version_info < OLDEST:
    raise FailedPreconditionError(
        f"SQLite {sqlite.sqlite_version} ({DRIVER}) is too old: imagekeep needs 3.37; pip install pysqlite3"
    )
