"""Reads the reference history as a change feed, in the caller's transaction.

A store's history has one writer at a time, and its sequence grows by one, so rows are committed in their order and
without holes. A reader that keeps the sequence and the hash of the last row it has read can go on from there, and
notices if the store was restored, copied or replaced: the row is then missing or another one.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import feed_statements as statements
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, typed, typed_row
from imagekeep.database.status import identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.database.driver import sqlite

_HASHED = (INTEGER, TEXT, TEXT, TEXT_OR_NULL, INTEGER, TEXT, INTEGER)
_ROW = (*_HASHED, INTEGER_OR_NULL, TEXT_OR_NULL, INTEGER)
_ENDS = (INTEGER_OR_NULL, INTEGER_OR_NULL)
_STATE = (TEXT, TEXT, INTEGER, TEXT_OR_NULL, INTEGER)


class Cursor(NamedTuple):
    """A row of the history: its sequence and its hash. Before the first row they are 0 and None."""

    sequence: int
    row: bytes | None


START = Cursor(0, None)


class FeedRow(NamedTuple):
    """One row of the history.

    `target_digest` is what the reference has from then on, and `row_target` what the row says, which is nothing for
    a pin that was set in the store alone. `kept` is false for a row of another platform than the store's first.
    """

    sequence: int
    reference: str
    image_id: str
    target_digest: str | None
    pinned: bool
    event: str
    at: int
    size: int | None
    row_target: str | None
    kept: bool

    @property
    def cursor(self) -> Cursor:
        """Return the cursor at this row."""
        return Cursor(
            self.sequence, row_hash((*self[:3], self.row_target, int(self.pinned), self.event, self.at))
        )


class StateRow(NamedTuple):
    """A reference as the last row of its history left it."""

    reference: str
    image_id: str
    size: int
    target_digest: str | None
    pinned: bool


class Page(NamedTuple):
    """Rows that follow a cursor, and what a reader needs to know whether they do.

    `here` is the row at the cursor's sequence in this history, `origin` the one at another sequence; None if there
    is no such row. `oldest` and `newest` are the sequences of the history's ends, 0 without rows.
    """

    store_id: str
    here: Cursor | None
    origin: Cursor | None
    oldest: int
    newest: int
    rows: list[FeedRow]


class State(NamedTuple):
    """All references at the newest row, with that row and the history's first."""

    store_id: str
    newest: Cursor
    oldest: Cursor
    rows: list[StateRow]


def row_hash(fields: Iterable[object]) -> bytes:
    """Return the sha256 of a row: sequence, reference, image id, target, pin, event and time.

    Columns that later revisions add are left out, so that a migration changes no row.
    """
    return hashlib.sha256(json.dumps(list(fields)).encode()).digest()


def read_page(cursor: sqlite.Cursor, after: int, origin: int, limit: int) -> Page:
    """Return at most `limit` rows after the sequence `after`."""
    oldest, newest = _ends(cursor)
    rows = typed(cursor.execute(statements.FEED_AFTER, (after, limit)), _ROW)
    found = [FeedRow(*row)._replace(pinned=bool(row[4]), kept=bool(row[9])) for row in rows]
    here, first = cursor_at(cursor, after), cursor_at(cursor, origin)
    return Page(identity(cursor).store_id, here, first, oldest, newest, found)


def read_state(cursor: sqlite.Cursor) -> State:
    """Return all references, in the order of their names as bytes."""
    oldest, newest = _ends(cursor)
    rows = typed(cursor.execute(statements.FEED_STATE), _STATE)
    found = [StateRow(*row)._replace(pinned=bool(row[4])) for row in rows]
    found.sort(key=lambda row: row.reference.encode())
    ends = cursor_at(cursor, newest) or START, cursor_at(cursor, oldest) or START
    return State(identity(cursor).store_id, *ends, found)


def newest_cursor(cursor: sqlite.Cursor) -> Cursor:
    """Return the cursor at the newest row."""
    return cursor_at(cursor, _ends(cursor)[1]) or START


def cursor_at(cursor: sqlite.Cursor, sequence: int) -> Cursor | None:
    """Return the cursor at the row with this sequence, or None; START at 0."""
    if not sequence:
        return START
    row = cursor.execute(statements.FEED_ROW, (sequence,)).fetchone()
    return Cursor(sequence, row_hash(typed_row(row, _HASHED))) if row else None


def _ends(cursor: sqlite.Cursor) -> tuple[int, int]:
    oldest, newest = typed_row(cursor.execute(statements.FEED_ENDS).fetchone(), _ENDS)
    return oldest or 0, newest or 0
