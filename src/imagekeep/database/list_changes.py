"""Reads what changed in the list of images since a row of the history, in the caller's transaction.

Every change to a reference or a pin has a row in the history, written with it, and the rows are numbered without
holes (imagekeep.database.feed). So a list that was read once needs only the images that later rows are about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import feed_statements, statements
from imagekeep.database.queries import find_image
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, typed, typed_row
from imagekeep.errors import ImageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image

MANY = 64
"""Changes above which reading the whole list takes less time."""

_CHANGE = (INTEGER, TEXT, TEXT)
_ENDS = (INTEGER_OR_NULL, INTEGER_OR_NULL)


class ListChanges(NamedTuple):
    """The images that changed, None for those that are gone, and the sequence of the newest row."""

    sequence: int
    images: Mapping[str, Image | None]


def newest_sequence(cursor: sqlite.Cursor) -> int:
    """Return the sequence of the newest row, 0 without rows."""
    _, newest = typed_row(cursor.execute(feed_statements.FEED_ENDS).fetchone(), _ENDS)
    return newest or 0


def list_changes(cursor: sqlite.Cursor, after: int, image_ids: Mapping[str, str]) -> ListChanges | None:
    """Return what changed after a row; None if that is much, or the history does not go back so far.

    `image_ids` has the image that each reference named at that row.
    """
    rows = list(typed(cursor.execute(statements.CHANGES_AFTER, (after, MANY + 1)), _CHANGE))
    last = rows[-1][0] if rows else after
    if len(rows) > MANY or last != after + len(rows) or last != newest_sequence(cursor):
        return None
    touched = {image_id for _, _, image_id in rows}
    touched |= {image_ids[reference] for _, reference, _ in rows if reference in image_ids}
    return ListChanges(last, {image_id: _image(cursor, image_id) for image_id in touched})


def _image(cursor: sqlite.Cursor, image_id: str) -> Image | None:
    try:
        return find_image(cursor, image_id)
    except ImageNotFoundError:
        return None
