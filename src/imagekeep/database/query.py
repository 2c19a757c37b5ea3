"""Runs a user's read-only SQL query, with limits on time and memory.

The connection is opened read-only, and an authorizer lets SQLite compile only statements that read, and only with
functions that reach nothing outside the database; either is enough to protect the store. The query is interrupted
after its time limit. SQLite's memory and the rows that are fetched are limited in bytes.

An error of the query says what kind of error it is. SQLite's own messages about a running query may quote the
store, secrets included, so they are not passed on; those about a query that does not compile quote only the
query.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from imagekeep.database.driver import DRIVER_ERRORS, sqlite, translate
from imagekeep.errors import ImagekeepError, InvalidArgumentError, StoreUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    Item = TypeVar("Item")

MEMORY_LIMIT = 256 << 20
"""Bytes that a query may use in all: SQLite, the rows, and their display."""

SQLITE_LIMIT = MEMORY_LIMIT // 2
"""Bytes for SQLite itself, each value included."""

ROWS_LIMIT = 32 << 20
"""Bytes for the rows that are fetched; text may take four times as much in memory as in UTF-8."""

_STEPS = 1000
"""Steps of SQLite's virtual machine, some microseconds, between two looks at the clock."""

_READING = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})

_DESCRIBING = frozenset(
    ("foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo")
)
"""The pragmas that describe the schema and change nothing."""

_FORBIDDEN_FUNCTIONS = frozenset(("edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"))
"""Functions of SQLite, its shell or an extension that reach outside the database."""

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
"""Codes about the file; any other is about the query."""

_KINDS = {
    sqlite.SQLITE_TOOBIG: "a value is too long for SQLite",
    sqlite.SQLITE_MISMATCH: "a value has the wrong type",
    sqlite.SQLITE_CONSTRAINT: "a table-valued function lacks an argument",
}
"""Causes of errors of a running query, by code."""

_FAILED = "a function failed on one of the values (such as bad JSON, a bad path, or an integer overflow)"
_NOT_UTF8 = "a value is not UTF-8 text (select it with CAST(… AS BLOB))"

EXPLAIN = "EXPLAIN QUERY PLAN "
"""Before a statement, asks SQLite how it would run it: rows of (id, parent, notused, detail)."""

_DECLARE = "SELECT 1 FROM json_each('[]'), json_tree('[]')"
"""Makes SQLite declare these tables; before 3.41 that needs permission to write to sqlite_schema."""


class Answer(NamedTuple):
    """A query's result: the names of its columns, its first rows, and whether there are more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


class _RowsError(MemoryError):
    """Raised when the rows exceed ROWS_LIMIT."""


class TimeLimit:
    """The time that a query may take, in seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Return whether the time has passed."""
        return time.monotonic() > self._deadline

    def error(self) -> StoreUnavailableError:
        """Return the error for a query that took too long."""
        return StoreUnavailableError(
            f"query: took more than {self.seconds:g} s (narrow it, or raise --timeout)"
        )

    def bound(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items; raise StoreUnavailableError once the time is over.

        Time that the consumer spends on an item does not count: a pager may wait for its reader.
        """
        for item in items:
            if self.is_over():
                raise self.error()
            given = time.monotonic()
            yield item
            self._deadline += time.monotonic() - given


def run_query(
    connection: sqlite.Connection,
    sql: str,
    path: Path,
    *,
    parameters: Mapping[str, str | float | None] | None = None,
    time_limit: TimeLimit,
    limit: int,
) -> Answer:
    """Run one read-only statement on a read-only connection, which may be used for nothing else afterwards.

    `parameters` are the values of `:name` in the statement. At most `limit` rows are fetched. The limit on SQLite's
    memory is for the whole process. Raises InvalidArgumentError for anything but one such statement with exactly
    these parameters, StoreUnavailableError if it takes too long or too much memory, and the errors of `translate`.
    """
    given = _Parameters(parameters or {})
    connection.execute(f"PRAGMA hard_heap_limit = {SQLITE_LIMIT}")
    connection.execute(_DECLARE).fetchall()
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(time_limit.is_over, _STEPS)
    budget = _Budget()
    connection.text_factory = budget.decode
    running = _Running()
    connection.set_trace_callback(running.begin)
    try:
        cursor = connection.execute(sql, given)
        given.require_all_used()
        rows = _fetch(cursor, limit + 1, budget)
    except (*DRIVER_ERRORS, sqlite.Warning, ValueError, MemoryError) as error:
        # The cause is not kept: its message may quote a value.
        given.require_all_known()
        raise _meaning(error, path, time_limit, running=running.begun) from None
    if cursor.description is None:
        raise InvalidArgumentError("query: no statement (give one SELECT)")
    return Answer(tuple(column[0] for column in cursor.description), rows[:limit], len(rows) > limit)


class _Parameters(dict[str, "str | float | None"]):
    """The values of a statement's parameters; records which of them SQLite requests."""

    def __init__(self, given: Mapping[str, str | float | None]) -> None:
        super().__init__(given)
        self._requested: dict[str, bool] = {}

    def __getitem__(self, name: str) -> str | float | None:
        self._requested[name] = name in self
        return super().__getitem__(name)

    def require_all_known(self) -> None:
        """Raise InvalidArgumentError if a parameter of the statement has no value."""
        if unknown := [name for name, known in self._requested.items() if not known]:
            name = printable(unknown[0])
            raise InvalidArgumentError(f"query: no value for :{name} (add -p {name}=VALUE)")

    def require_all_used(self) -> None:
        """Raise InvalidArgumentError if the statement lacks one of the parameters."""
        if unused := [name for name in self if name not in self._requested]:
            raise InvalidArgumentError(f"query: the statement has no parameter :{printable(unused[0])}")


class _Running:
    """Records whether SQLite has begun to run a statement, after compiling it."""

    begun = False

    def begin(self, _: str) -> None:
        """Record that it has (sqlite3_trace_v2 reports each statement as it starts)."""
        self.begun = True


class _Budget:
    """Limits the bytes of the rows that are fetched to ROWS_LIMIT."""

    def __init__(self) -> None:
        self._left = ROWS_LIMIT

    def spend(self, size: int) -> None:
        """Count bytes; raise _RowsError if too few are left."""
        self._left -= size
        if self._left < 0:
            raise _RowsError

    def decode(self, text: bytes) -> str:
        """Decode a value; raise _RowsError first if it is too long: as text it may take four times its bytes."""
        if len(text) > self._left:
            raise _RowsError
        return text.decode()


def _fetch(cursor: sqlite.Cursor, limit: int, budget: _Budget) -> list[tuple[Any, ...]]:
    """Return at most `limit` rows; raise _RowsError if they exceed the budget."""
    rows = []
    for row in cursor:
        budget.spend(sys.getsizeof(row) + sum(map(sys.getsizeof, row)))
        rows.append(row)
        if len(rows) == limit:
            break
    return rows


def _authorize(action: int, name: str | None, detail: str | None, *_: object) -> int:
    """Return to SQLite whether a statement that it compiles may do this (sqlite3_set_authorizer)."""
    allowed = (
        action in _READING
        or (action == sqlite.SQLITE_FUNCTION and (detail or "").lower() not in _FORBIDDEN_FUNCTIONS)
        or (action == sqlite.SQLITE_PRAGMA and (name or "").lower() in _DESCRIBING)
    )
    return sqlite.SQLITE_OK if allowed else sqlite.SQLITE_DENY


def _is_unquoted_table(error: Exception) -> bool:
    return str(error).lower().startswith('near "references": syntax')


def _meaning(error: Exception, path: Path, time_limit: TimeLimit, *, running: bool) -> ImagekeepError:
    """Return imagekeep's error for SQLite's: about the store, a limit, or the query."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in _OF_THE_STORE:
        return translate(cast("sqlite.Error", error), path)
    if primary == sqlite.SQLITE_INTERRUPT:
        return time_limit.error()
    if isinstance(error, _RowsError):
        limit = ROWS_LIMIT >> 20
        return StoreUnavailableError(
            f"query: its rows take more than {limit} MiB (narrow it, or lower --limit)"
        )
    if primary == sqlite.SQLITE_NOMEM or isinstance(error, MemoryError):
        return StoreUnavailableError(f"query: needs more than {MEMORY_LIMIT >> 20} MiB of memory (narrow it)")
    if isinstance(error, UnicodeEncodeError):
        return InvalidArgumentError("query: the statement or a parameter is not UTF-8 text")
    if isinstance(error, UnicodeDecodeError):
        return InvalidArgumentError(f"query: {_NOT_UTF8}")
    if running and str(error).startswith(
        "cannot VACUUM"
    ):  # the one statement that the authorizer is not asked about
        return InvalidArgumentError("query: may only read (give one SELECT)")
    if running:
        return InvalidArgumentError(f"query: {_KINDS.get(primary, _FAILED)}")
    if "not authorized" in str(error):
        return InvalidArgumentError(f"query: may only read: {printable(error)} (give one SELECT)")
    advice = ' (references is a word of SQL: read reference_list, or write "references")'
    return InvalidArgumentError(f"query: {printable(error)}{advice * _is_unquoted_table(error)}")
