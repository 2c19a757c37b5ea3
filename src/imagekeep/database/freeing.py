"""Counts what removing references frees, in the caller's transaction; null means unknown."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import freeing_statements as statements
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, typed
from imagekeep.digest import parse_query
from imagekeep.errors import InvalidReferenceError
from imagekeep.questions.kubelet import Collectable
from imagekeep.reference import parse_docker_ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagekeep.database.driver import sqlite

_STAYS = None
"""The step of what is never freed."""

_NANOSECONDS_IN_A_MICROSECOND = 1_000
_STEP = (INTEGER_OR_NULL, INTEGER, INTEGER)
_COLLECTABLE = (TEXT, INTEGER, INTEGER_OR_NULL, INTEGER_OR_NULL, INTEGER, INTEGER)


class Bytes(NamedTuple):
    """Bytes that steps of a removal free, and that stay because other references reach them; None if unknown."""

    freed: tuple[int | None, ...]
    kept: int | None

    @property
    def total(self) -> int | None:
        """Return what all steps free."""
        return None if None in self.freed else sum(step or 0 for step in self.freed)


class Freed(NamedTuple):
    """What the steps of a removal free: content, and unpacked layers on disk."""

    content: Bytes
    unpacked: Bytes


def freed_by(cursor: sqlite.Cursor, steps: Sequence[Sequence[str]]) -> Freed:
    """Return what removing references frees, step after step."""
    numbered = json.dumps([[name, number] for number, names in enumerate(steps) for name in names])
    if unknown_targets(cursor):
        unknown = Bytes((None,) * len(steps), None)
        return Freed(unknown, unknown)
    return Freed(
        _counted(cursor, statements.FREED_CONTENT, numbered, len(steps)),
        _counted(cursor, statements.FREED_UNPACKED, numbered, len(steps)),
    )


def shared_content(cursor: sqlite.Cursor) -> int | None:
    """Return the bytes of the blobs that several targets need, each once; None if unknown."""
    ((size, unknown),) = typed(cursor.execute(statements.SHARED_CONTENT), (INTEGER, INTEGER))
    return None if unknown or unknown_targets(cursor) else size


def names_of_images(cursor: sqlite.Cursor) -> dict[str, list[str]]:
    """Return every name of every image, by image id, those of the store's first platform first."""
    found: dict[str, dict[str, None]] = {}
    for image_id, name in typed(cursor.execute(statements.NAMES_OF_IMAGES), (TEXT, TEXT)):
        found.setdefault(image_id, {})[name] = None
    return {image_id: list(names) for image_id, names in found.items()}


def find_on_any_platform(name: str, names: Mapping[str, Sequence[str]]) -> str:
    """Return the id that a reference in any spelling, or a full or truncated id, stands for.

    `names` are those of every image. Raises ImageNotFoundError and AmbiguousError.
    """
    owners: dict[str, str] = {}
    for image_id, references in names.items():
        for reference in references:
            owners.setdefault(reference, image_id)  # of a name of several images, the first platform's
    if name in owners:
        return owners[name]
    if name in names:
        return name
    with suppress(InvalidReferenceError, KeyError):  # it may be a truncated id
        return owners[str(parse_docker_ref(name))]
    return parse_query(name).choose(names)


def collectable_images(cursor: sqlite.Cursor, now: int) -> list[Collectable]:
    """Return every image as a kubelet would see it at a time in nanoseconds."""
    return [
        Collectable(
            image_id,
            size,
            now if first_seen is None else first_seen * _NANOSECONDS_IN_A_MICROSECOND,
            None if last_used is None else last_used * _NANOSECONDS_IN_A_MICROSECOND,
            bool(pinned),
            bool(in_use),
        )
        for image_id, size, first_seen, last_used, pinned, in_use in typed(
            cursor.execute(statements.COLLECTABLE_IMAGES), _COLLECTABLE
        )
    ]


def unknown_targets(cursor: sqlite.Cursor) -> int:
    """Return how many references were not read, so that no total is known."""
    (unknown,) = cursor.execute(statements.UNKNOWN_TARGETS).fetchone()
    return int(unknown)


def _counted(cursor: sqlite.Cursor, statement: str, steps: str, count: int) -> Bytes:
    """Return the bytes of each step, and those that stay."""
    found: Mapping[int | None, int | None] = {
        step: None if unknown else size
        for step, size, unknown in typed(cursor.execute(statement, {"steps": steps}), _STEP)
    }
    return Bytes(tuple(found.get(step, 0) for step in range(count)), found.get(_STAYS, 0))
