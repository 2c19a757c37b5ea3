"""The centre's functions as Python calls; checks every answer before anything is done with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.database.feed import Cursor
from imagekeep.errors import CentreFaultError, CentreRefusedError
from imagekeep.fleet import statements
from imagekeep.fleet.connection import CALL_TIMEOUT, time_limit, translating

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

    from imagekeep.fleet.connection import Connection
    from imagekeep.fleet.wire import Facts

LACKING_MAX = 1000
"""Ids that a centre may want the facts of at once."""


class Greeting(NamedTuple):
    """What a node says of itself with hello_v1."""

    version: str
    revision: str
    store_id: str
    now: datetime
    newest: Cursor
    watcher_connected_at: datetime | None
    oldest_verified_at: datetime | None


class Position(NamedTuple):
    """How far the centre has come with this node."""

    epoch: int
    cursor: Cursor
    store_id: str | None
    origin: Cursor | None
    hash_due: bool
    incomplete_hash: bytes | None


class Centre:
    """Calls the centre's functions on one connection; `place` is what errors call it."""

    def __init__(self, connection: Connection, place: str, timeout: float = CALL_TIMEOUT) -> None:
        self._connection = connection
        self.place = place
        self._timeout = timeout

    def hello(self, greeting: Greeting) -> Position:
        """Greet the centre and return its position; raises as all calls here do, and CentreRefusedError."""
        newest = greeting.newest
        answer = self._call(statements.HELLO, *greeting[:4], newest.sequence, newest.row, *greeting[5:])
        try:
            return _position(*answer)
        except (TypeError, ValueError) as error:
            raise self._fault("hello") from error

    def receive(
        self, epoch: int, after: Cursor, last: Cursor, *columns: Sequence[Any], more: bool
    ) -> list[str]:
        """Send rows of the history; return the ids whose facts the centre wants. Raises CursorMovedError."""
        answer = self._call(
            statements.RECEIVE, epoch, after.sequence, after.row, last.row, more, *map(list, columns)
        )
        return self._ids(answer[0])

    def snapshot(
        self, at: Position, reason: str, store_id: str, ends: tuple[Cursor, Cursor], *columns: Sequence[Any]
    ) -> tuple[int, list[str]]:
        """Send the whole state at the newest row; return the new epoch and the ids whose facts are wanted.

        `ends` are the newest and the oldest row. Raises CentreRefusedError if the node is conflicted from now on,
        and CursorMovedError.
        """
        newest, oldest = ends
        epoch, lacking = self._call(
            statements.SNAPSHOT, at.epoch, at.cursor.sequence, at.cursor.row, reason, store_id, newest.sequence,
            newest.row, oldest.sequence, oldest.row, *map(list, columns),
        )  # fmt: skip
        if epoch is None:
            raise CentreRefusedError(
                f"{self.place}: this node is conflicted: more than one store ships under its name (find the "
                "other, then run `imagekeep fleet enroll` for this node again)"
            )
        if type(epoch) is not int or epoch != at.epoch + 1:
            raise self._fault("snapshot")
        return epoch, self._ids(lacking)

    def is_equal(self, epoch: int, cursor: Cursor, state_hash: bytes) -> tuple[bool, list[str]]:
        """Return whether the centre has a state with this hash, and the ids whose facts it wants."""
        equal, lacking = self._call(statements.HASH, epoch, cursor.sequence, cursor.row, state_hash)
        if type(equal) is not bool:
            raise self._fault("hash")
        return equal, self._ids(lacking)

    def send_facts(self, facts: Sequence[Facts]) -> None:
        """Send what configs say of at most 100 images."""
        self._call(statements.FACTS, json.dumps(facts))

    def send_incomplete(self, digest: bytes, *columns: Sequence[Any]) -> None:
        """Replace the references that the node cannot read, and the hash that hello returns."""
        self._call(statements.INCOMPLETE, digest, *map(list, columns))

    def _call(self, statement: str, *arguments: Any) -> tuple[Any, ...]:
        """Return the one row of a call, which is one transaction of the centre."""
        with translating(self.place), time_limit(self._connection, self.place, self._timeout):
            cursor: psycopg.Cursor[tuple[Any, ...]] = self._connection.execute(statement, arguments)
            rows: list[tuple[Any, ...]] = cursor.fetchmany(2)
        if len(rows) != 1 or cursor.description is None:
            raise self._fault("a call")
        return rows[0]

    def _ids(self, value: object) -> list[str]:
        if not isinstance(value, list) or len(value) > LACKING_MAX or not all(type(v) is str for v in value):
            raise self._fault("the wanted ids")
        return value

    def _fault(self, what: str) -> CentreFaultError:
        return CentreFaultError(f"{self.place}: the answer to {what} is malformed (is it imagekeep's?)")


def _position(
    epoch: Any,
    sequence: Any,
    row: Any,
    store_id: Any,
    origin_sequence: Any,
    origin_row: Any,
    due: Any,
    digest: Any,
) -> Position:
    """Return a checked position; raises ValueError or TypeError for what no centre says."""
    if type(epoch) is not int or type(sequence) is not int or type(due) is not bool:
        raise TypeError
    if not 0 <= epoch < 2**31 or not 0 <= sequence < 2**63 or (sequence > 0) != (row is not None):
        raise ValueError
    if store_id is not None and (type(store_id) is not str or len(store_id) > 100):
        raise TypeError
    has_origin = type(origin_sequence) is int and 0 < origin_sequence < 2**63
    return Position(
        epoch,
        Cursor(sequence, _hash(row)),
        store_id,
        Cursor(origin_sequence, _hash(origin_row)) if has_origin else None,
        due,
        _hash(digest),
    )


def _hash(value: Any) -> bytes | None:
    if value is not None and (type(value) is not bytes or len(value) != 32):
        raise TypeError
    return value
