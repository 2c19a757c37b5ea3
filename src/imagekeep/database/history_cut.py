"""Removes old rows of the history: the only way to shorten it, which leaves a row that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import question_statements as statements
from imagekeep.database.row_types import INTEGER, typed
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from imagekeep.database.driver import sqlite


class HistoryCut(NamedTuple):
    """A removal of the rows before a time, except those that say what existed then."""

    older_than: datetime
    removed: int
    at: datetime


def cut_history(cursor: sqlite.Cursor, older_than: int, now: int, *, keep_last: bool = False) -> int:
    """Remove the rows before a time in microseconds; return how many there were.

    What each reference was at that time stays, and so every later time can still be asked about. With `keep_last`
    the last row of a reference that had vanished by then stays too.
    """
    bounds = {"older_than": older_than, "keep_last": keep_last}
    (removed,) = cursor.execute(statements.COUNT_CUTTABLE, bounds).fetchone()
    if removed:
        cursor.execute(statements.BEGIN_CUT, {"older_than": older_than, "at": now})
        cursor.execute(statements.CUT_HISTORY, bounds)
        cursor.execute(statements.END_CUT, {"removed": removed})
    return int(removed)


def history_cuts(cursor: sqlite.Cursor) -> list[HistoryCut]:
    """Return every cut, oldest first."""
    rows = typed(cursor.execute(statements.CUTS), (INTEGER, INTEGER, INTEGER))
    return [
        HistoryCut(from_microseconds(older_than), removed, from_microseconds(at))
        for older_than, removed, at in rows
    ]
