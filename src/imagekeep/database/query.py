"""Runs a query in an operator's own words, which can only read, and only for so long.

Three things hold it, each by itself enough to keep the store as it is: the connection is opened read-only; an
authorizer lets SQLite compile nothing but reading, with functions that touch nothing outside; and the query is
interrupted when its time is over. The memory that SQLite may take is limited too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from imagekeep.database.connection import DRIVER_ERRORS, translate
from imagekeep.database.driver import sqlite
from imagekeep.errors import ImagekeepError, InvalidArgumentError, StoreUnavailableError, printable

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_LIMIT = 256 << 20
"""Bytes that SQLite may take for a query, of which any one value may be a part."""

_STEPS = 1000
"""Steps of SQLite's machine, some microseconds, after which it is looked whether the time is over."""

_READING = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})

_DESCRIBING = frozenset(
    ("foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo")
)
"""The pragmas that only tell what the schema is."""

_FORBIDDEN_FUNCTIONS = frozenset(("edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"))
"""Those of SQLite, its shell or an extension that reach out of the database."""

_OF_THE_STORE = frozenset(
    {
        sqlite.SQLITE_PERM,
        sqlite.SQLITE_BUSY,
        sqlite.SQLITE_LOCKED,
        sqlite.SQLITE_READONLY,
        sqlite.SQLITE_IOERR,
        sqlite.SQLITE_CORRUPT,
        sqlite.SQLITE_FULL,
        sqlite.SQLITE_CANTOPEN,
        sqlite.SQLITE_PROTOCOL,
        sqlite.SQLITE_NOTADB,
    }
)
"""The codes that say something of the file; any other says something of the query."""

_DECLARE = "SELECT 1 FROM json_each('[]'), json_tree('[]')"
"""Lets SQLite declare these tables, for which before 3.41 it asks to write to the schema's own table."""


class Answer(NamedTuple):
    """What a query gave: the names of its columns, its first rows, and whether there are more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def run_query(connection: sqlite.Connection, sql: str, path: Path, *, seconds: float, limit: int) -> Answer:
    """Run one statement that only reads, on a read-only connection that is used for nothing else from then on.

    At most `limit` rows are taken. The limit on memory is the whole process's. Raises InvalidArgumentError for
    what is no such statement, StoreUnavailableError where it takes longer than `seconds` or too much memory,
    and the errors of `translate`.
    """
    deadline = time.monotonic() + seconds
    connection.execute(f"PRAGMA hard_heap_limit = {MEMORY_LIMIT}")
    connection.execute(_DECLARE).fetchall()
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        cursor = connection.execute(sql)
        rows = cursor.fetchmany(limit + 1)
    except (*DRIVER_ERRORS, sqlite.Warning, ValueError, MemoryError) as error:
        raise _meaning(error, path, seconds) from error
    if cursor.description is None:
        raise InvalidArgumentError("query: there is no statement; give one SELECT")
    return Answer(tuple(column[0] for column in cursor.description), rows[:limit], len(rows) > limit)


def _authorize(action: int, name: str | None, detail: str | None, *_: object) -> int:
    """Tell SQLite, as it compiles a statement, whether it may do this (sqlite3_set_authorizer)."""
    allowed = (
        action in _READING
        or (action == sqlite.SQLITE_FUNCTION and (detail or "").lower() not in _FORBIDDEN_FUNCTIONS)
        or (action == sqlite.SQLITE_PRAGMA and (name or "").lower() in _DESCRIBING)
    )
    return sqlite.SQLITE_OK if allowed else sqlite.SQLITE_DENY


def _meaning(error: Exception, path: Path, seconds: float) -> ImagekeepError:
    """Return the error of ours for what SQLite raised: about the store, the query's limits, or the query."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in _OF_THE_STORE or isinstance(error, UnicodeDecodeError):
        return translate(cast("sqlite.Error", error), path)
    if primary == sqlite.SQLITE_INTERRUPT:
        return StoreUnavailableError(f"query: it took more than {seconds:g} s; narrow it, or give --timeout")
    if primary == sqlite.SQLITE_NOMEM or isinstance(error, MemoryError):
        return StoreUnavailableError(
            f"query: it needs more than {MEMORY_LIMIT >> 20} MiB of memory; narrow it"
        )
    if "not authorized" in str(error):
        return InvalidArgumentError(f"query: a query may only read ({printable(error)}); give one SELECT")
    return InvalidArgumentError(f"query: {printable(error)}")
