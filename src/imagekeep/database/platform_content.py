"""Reads what the store knows of each platform of a reference's target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import target_statements
from imagekeep.database.queries import no_such_image
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, typed
from imagekeep.platform_content import ContentState, TargetPlatform

if TYPE_CHECKING:
    from imagekeep.database.driver import sqlite

_PLATFORM = (TEXT_OR_NULL, TEXT, TEXT_OR_NULL, INTEGER_OR_NULL, TEXT_OR_NULL, INTEGER, INTEGER, INTEGER)


def platforms_of(cursor: sqlite.Cursor, reference: str) -> list[TargetPlatform]:
    """Return each platform of a reference's target in the order of its index, attestations left out.

    Empty if the store has not read the target yet. Raises ImageNotFoundError for an unknown reference.
    """
    if cursor.execute(target_statements.HAS_REFERENCE, (reference,)).fetchone() is None:
        raise no_such_image(reference)
    rows = typed(cursor.execute(target_statements.PLATFORMS_OF_REFERENCE, (reference,)), _PLATFORM)
    return [
        TargetPlatform(
            name, digest, image_id, size, state and ContentState(state), bool(chosen), absent, lost
        )
        for name, digest, image_id, size, state, chosen, absent, lost in rows
    ]
