"""Runs an operator's own query, which can only read, and is bounded in time and memory.

Three things keep the store as it is, each by itself: the connection is opened read-only; an authorizer lets
SQLite compile nothing but reading, with functions that reach nothing outside; and the query is interrupted when
its time is over. SQLite's memory and the rows that are fetched are bounded by bytes.

An error of the query says what kind of error it is. Once the query runs, SQLite's own messages may quote what the
store holds, secrets among it, so they are not passed on; those of a query that does not compile quote only it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from imagekeep.database.driver import DRIVER_ERRORS, sqlite, translate
from imagekeep.errors import ImagekeepError, InvalidArgumentError, StoreUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Item = TypeVar("Item")

MEMORY_LIMIT = 256 << 20
"""Bytes that a query may take in all: SQLite's, the rows, and what shows them."""

SQLITE_LIMIT = MEMORY_LIMIT // 2
"""Bytes for SQLite itself, of which any one value may be a part."""

ROWS_LIMIT = 32 << 20
"""Bytes for the rows that are fetched; a text may take four times as much in memory as in UTF-8."""

_STEPS = 1000
"""Steps of SQLite's virtual machine, some microseconds, between two looks at the clock."""

_READING = frozenset({sqlite.SQLITE_SELECT, sqlite.SQLITE_READ, sqlite.SQLITE_RECURSIVE})

_DESCRIBING = frozenset(
    ("foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo")
)
"""The pragmas that describe the schema and change nothing."""

_FORBIDDEN_FUNCTIONS = frozenset(("edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"))
"""Functions of SQLite, its shell or an extension that reach out of the database."""

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

_KINDS = {
    sqlite.SQLITE_TOOBIG: "a value is too long for SQLite",
    sqlite.SQLITE_MISMATCH: "a value has the wrong type",
    sqlite.SQLITE_CONSTRAINT: "a table-valued function lacks an argument",
}
"""What an error of a running query is about."""

_FAILED = "a function failed on one of the values (such as bad JSON, a bad path, or an integer overflow)"
_NOT_UTF8 = "a value is not UTF-8 text (select it with CAST(… AS BLOB))"

_DECLARE = "SELECT 1 FROM json_each('[]'), json_tree('[]')"
"""Lets SQLite declare these tables, for which before 3.41 it asks to write to the schema's own table."""


class Answer(NamedTuple):
    """A query's result: the names of its columns, its first rows, and whether there are more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


class _RowsError(MemoryError):
    """Raised for more rows than ROWS_LIMIT bytes of them."""


class TimeLimit:
    """The seconds that a query may take, from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Return whether the time has passed."""
        return time.monotonic() > self._deadline

    def error(self) -> StoreUnavailableError:
        """Return the error that says so."""
        return StoreUnavailableError(
            f"query: took more than {self.seconds:g} s (narrow it, or raise --timeout)"
        )

    def bound(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items as long as there is time; raises StoreUnavailableError once it is over.

        The time for which the consumer keeps an item does not count: a pager may wait for its reader.
        """
        for item in items:
            if self.is_over():
                raise self.error()
            given = time.monotonic()
            yield item
            self._deadline += time.monotonic() - given


def run_query(
    connection: sqlite.Connection, sql: str, path: Path, *, time_limit: TimeLimit, limit: int
) -> Answer:
    """Run one statement that only reads, on a read-only connection that is used for nothing else from then on.

    At most `limit` rows are fetched. The limit on SQLite's memory is the whole process's. Raises
    InvalidArgumentError for anything but one such statement, StoreUnavailableError where it takes too long or
    too much memory, and the errors of `translate`.
    """
    connection.execute(f"PRAGMA hard_heap_limit = {SQLITE_LIMIT}")
    connection.execute(_DECLARE).fetchall()
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(time_limit.is_over, _STEPS)
    budget = _Budget()
    connection.text_factory = budget.decode
    running = _Running()
    connection.set_trace_callback(running.note)
    try:
        cursor = connection.execute(sql)
        rows = _fetch(cursor, limit + 1, budget)
    except (*DRIVER_ERRORS, sqlite.Warning, ValueError, MemoryError) as error:
        # The cause is not kept: its message may quote a value.
        raise _meaning(error, path, time_limit, running=running.begun) from None
    if cursor.description is None:
        raise InvalidArgumentError("query: no statement (give one SELECT)")
    return Answer(tuple(column[0] for column in cursor.description), rows[:limit], len(rows) > limit)


class _Running:
    """Whether SQLite has begun to run a statement, after it was compiled."""

    begun = False

    def note(self, _: str) -> None:
        """Note that it has (sqlite3_trace_v2 reports each statement as it starts)."""
        self.begun = True


class _Budget:
    """Counts the bytes of the rows that were fetched, and refuses those beyond ROWS_LIMIT."""

    def __init__(self) -> None:
        self._left = ROWS_LIMIT

    def spend(self, size: int) -> None:
        """Count bytes; raises _RowsError where there are more than are left."""
        self._left -= size
        if self._left < 0:
            raise _RowsError

    def decode(self, text: bytes) -> str:
        """Return a value of SQLite's as text, which may be four times its bytes: these are looked at first."""
        if len(text) > self._left:
            raise _RowsError
        return text.decode()


def _fetch(cursor: sqlite.Cursor, limit: int, budget: _Budget) -> list[tuple[Any, ...]]:
    """Return at most `limit` rows; raises _RowsError where they take more than the budget."""
    rows = []
    for row in cursor:
        budget.spend(sys.getsizeof(row) + sum(map(sys.getsizeof, row)))
        rows.append(row)
        if len(rows) == limit:
            break
    return rows


def _authorize(action: int, name: str | None, detail: str | None, *_: object) -> int:
    """Return to SQLite, as it compiles a statement, whether it may do this (sqlite3_set_authorizer)."""
    allowed = (
        action in _READING
        or (action == sqlite.SQLITE_FUNCTION and (detail or "").lower() not in _FORBIDDEN_FUNCTIONS)
        or (action == sqlite.SQLITE_PRAGMA and (name or "").lower() in _DESCRIBING)
    )
    return sqlite.SQLITE_OK if allowed else sqlite.SQLITE_DENY


def _meaning(error: Exception, path: Path, time_limit: TimeLimit, *, running: bool) -> ImagekeepError:
    """Return the error of ours for what SQLite raised: about the store, the query's limits, or the query."""
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
        return InvalidArgumentError("query: the statement is not UTF-8 text")
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
    return InvalidArgumentError(f"query: {printable(error)}")
