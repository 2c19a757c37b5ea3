"""Asks a centre on PostgreSQL: read-only, with a time limit, and with the views' schema first in the path."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg
from psycopg import sql

from imagekeep.errors import InvalidArgumentError, StoreUnavailableError, printable
from imagekeep.fleet import statements
from imagekeep.fleet.connection import connect, place_of, translate, translating
from imagekeep.fleet.questions import positional

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.fleet.connection import Connection
    from imagekeep.fleet.questions import Row

TIMEOUT = 60.0
"""Seconds for a question."""

_OPTIONS = "-c search_path=fleet,pg_temp -c default_transaction_read_only=on -c statement_timeout={timeout}"

_OF_THE_QUERY = ("0A", "21", "22", "25", "2F", "42", "54", "55")
"""Classes of SQLSTATE that a user's query is to blame for."""


class Answer(NamedTuple):
    """A query's columns, its first rows, and whether there are more."""

    columns: tuple[str, ...]
    rows: list[Row]
    more: bool


class PostgresFleet:
    """A centre that answers questions."""

    dated = True

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    @classmethod
    @contextlib.contextmanager
    def open(cls, parameters: dict[str, str], timeout: float = TIMEOUT) -> Iterator[Self]:
        """Yield the centre that these parameters name; raises as `connect` does."""
        options = _OPTIONS.format(timeout=max(1, int(timeout * 1000)))
        with connect(parameters | {"options": options}) as connection:
            yield cls(connection, place_of(parameters))

    def rows(self, statement: str, **parameters: Any) -> list[Row]:
        """Return the rows of one of our own statements; raises as `connect` does."""
        with translating(self._place):
            rows: list[Row] = self._connection.execute(positional(statement), parameters).fetchall()
        return rows

    def query(self, text: str, limit: int) -> Answer:
        """Run one read-only statement of a user, and return at most `limit` rows.

        Raises InvalidArgumentError for a query that is wrong or may not run, StoreUnavailableError after the time
        limit, and as `connect` does.
        """
        # A superuser's query could run a program by COPY, in a read-only transaction too. Who may not become a
        # reader has only rights of their own.
        with translating(self._place), contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self._connection.execute(statements.BE_A_READER)
        try:
            with self._connection.transaction():
                return self._stream(text, limit)
        except psycopg.errors.QueryCanceled:
            raise StoreUnavailableError("query: took too long (narrow it, or raise --timeout)") from None
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] in _OF_THE_QUERY:
                raise InvalidArgumentError(f"query: {printable(error.diag.message_primary)}") from None
            raise translate(error, self._place) from error

    def _stream(self, text: str, limit: int) -> Answer:
        """Return a query's first rows; a stream uses the extended protocol, which runs one statement only."""
        columns: tuple[str, ...] = ()
        rows: list[Row] = []
        with self._connection.cursor() as cursor:
            for row in cursor.stream(text.encode()):
                columns = columns or tuple(column.name for column in cursor.description or ())
                if len(rows) == limit:
                    return Answer(columns, rows, more=True)
                rows.append(row)
        return Answer(columns, rows, more=False)

    @contextlib.contextmanager
    def one_state(self) -> Iterator[None]:
        """Read one state of the centre until the context ends."""
        with translating(self._place), self._connection.transaction():
            self._connection.execute(statements.ONE_STATE)
            yield

    def columns_of(self, view: str) -> dict[str, str]:
        """Return the columns of a view and their types."""
        with translating(self._place):
            return dict(self._connection.execute(statements.COLUMNS, (view,)).fetchall())

    def copy(self, view: str, path: Path) -> None:
        """Write all rows of a view to a file as CSV with a heading."""
        statement = sql.SQL(statements.COPY).format(sql.Identifier(view))
        with path.open("wb") as file, self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for chunk in copy:
                file.write(chunk)
