"""Reads the layers of a manifest, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import question_statements as statements
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, typed

if TYPE_CHECKING:
    from imagekeep.database.driver import sqlite

_LAYER = (TEXT, INTEGER_OR_NULL, INTEGER_OR_NULL)
_SHARED = (TEXT, INTEGER)


class Layer(NamedTuple):
    """A layer of a manifest, and whether the source has it; None if unknown."""

    digest: str
    size: int | None
    present: bool | None


def shared_layers(cursor: sqlite.Cursor) -> dict[str, int]:
    """Return the layers that belong to several images, and to how many."""
    return dict(typed(cursor.execute(statements.SHARED_LAYERS), _SHARED))


def layers_of(cursor: sqlite.Cursor, manifest_digest: str) -> list[Layer]:
    """Return the layers of a manifest, the lowest first; empty if it was not read."""
    return [
        Layer(digest, size, None if present is None else bool(present))
        for digest, size, present in typed(
            cursor.execute(statements.LAYERS_OF_MANIFEST, (manifest_digest,)), _LAYER
        )
    ]
