"""Reads lists of images that filters select, in the caller's transaction."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.database import filter_statements as statements
from imagekeep.database.filters import compile_filters
from imagekeep.database.history import define_functions
from imagekeep.database.queries import find_image, key_of, platforms
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, typed
from imagekeep.errors import ImageNotFoundError
from imagekeep.questions.listed import ListedImage
from imagekeep.questions.moments import SECOND
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image
    from imagekeep.questions.filters import Filter

_STATE_NAMES = {number: name for name, number in statements.STATE_NUMBERS.items()}


_USAGE = (INTEGER, INTEGER, INTEGER_OR_NULL, INTEGER)


class Facts(NamedTuple):
    """Which facts a list needs beyond names and sizes; reading each takes time."""

    created: bool = False
    platform: bool = False
    usage: bool = False
    state: bool = False
    sharing: bool = False


def list_images(
    cursor: sqlite.Cursor,
    filters: Sequence[Filter],
    facts: Facts,
    now: int,
    platform_keys: Sequence[int] = (0,),
) -> list[ListedImage]:
    """Return the images that pass every filter, in the order of ids; `now` is in nanoseconds.

    Raises InvalidArgumentError for a value that cannot be read, and as `find_by_name` does for the image of a
    `before` or `since`.
    """
    define_functions(cursor)
    conditions = compile_filters(cursor, filters, now)
    selected = statements.images_that_match([condition.sql for condition in conditions])
    parameters = [value for condition in conditions for value in condition.parameters]
    keys = [
        key
        for (key,) in typed(
            cursor.execute(selected, (json.dumps(list(platform_keys)), *parameters)), (INTEGER,)
        )
    ]
    return _read(cursor, json.dumps(keys), facts, now)


def list_for_platforms(
    cursor: sqlite.Cursor, filters: Sequence[Filter], facts: Facts, now: int, asked: Sequence[str | None]
) -> list[ListedImage]:
    """Return the images for the asked platforms, None being the store's first, that pass every filter.

    A `platform=` filter asks about the images of every platform. Raises as `list_images` does.
    """
    if any(each.key == "platform" and not each.negated for each in filters):
        keys = [kept.key for kept in platforms(cursor)]
    else:
        keys = [key_of(cursor, platform) for platform in asked]
    return list_images(cursor, filters, facts, now, keys)


def images_by_id(cursor: sqlite.Cursor, ids: Sequence[str]) -> dict[str, Image]:
    """Return the images with these full ids that the store still has, with their configs."""
    found = {}
    names = [kept.name for kept in platforms(cursor)]
    for image_id, name in product(ids, names):
        if image_id not in found:
            with suppress(ImageNotFoundError):
                found[image_id] = find_image(cursor, image_id, name)
    return found


def _read(cursor: sqlite.Cursor, keys: str, facts: Facts, now: int) -> list[ListedImage]:
    """Return the images with these keys, a JSON list, in the order of ids.

    An image with a container is in use at `now`.
    """
    references = _references_of(cursor, keys)
    created = _rows(cursor, statements.LISTED_CREATIONS, keys, (INTEGER, INTEGER_OR_NULL), facts.created)
    platforms = _rows(cursor, statements.LISTED_PLATFORMS, keys, (INTEGER, TEXT), facts.platform)
    usage = _rows(cursor, statements.LISTED_USAGE, keys, _USAGE, facts.usage)
    states = _rows(cursor, statements.LISTED_STATES, keys, (INTEGER, INTEGER_OR_NULL), facts.state)
    sharing = _rows(cursor, statements.LISTED_CONTENT, keys, (INTEGER,), facts.sharing)
    found = []
    for key, image_id, size in typed(
        cursor.execute(statements.LISTED_IMAGES, (keys,)), (INTEGER, TEXT, INTEGER)
    ):
        named = references.get(key, [])
        seconds, nanoseconds = created.get(key, (None, None))
        first_seen, last_used, containers = usage.get(key, (None, None, None))
        unique, shared, unknown = sharing.get(key, (None, None, 1))
        found.append(
            ListedImage(
                image_id,
                tuple(name for *_, name, _, _ in named),
                size,
                any(pinned for *_, pinned in named),
                targets=tuple(target for *_, target, _ in named),
                created=None if seconds is None else seconds * SECOND + nanoseconds,
                platform=platforms.get(key, (None,))[0],
                first_seen=_time(first_seen),
                last_used=_time(now // 1000 if containers else last_used),
                containers=containers,
                state=_STATE_NAMES.get(states.get(key, (None,))[0]),
                unique_size=None if unknown else unique or 0,
                shared_size=None if unknown else shared or 0,
            )
        )
    by_id = {image.id: image for image in reversed(found)}  # of an image of two platforms, the first one's
    return [by_id[image_id] for image_id in sorted(by_id)]


def _rows(
    cursor: sqlite.Cursor, statement: str, keys: str, kinds: Sequence[frozenset[type]], wanted: bool
) -> dict[int, Any]:
    """Return the columns of each image after its key, or nothing if they are not wanted."""
    if not wanted:
        return {}
    return {key: values for key, *values in typed(cursor.execute(statement, (keys,)), kinds)}


def _references_of(cursor: sqlite.Cursor, keys: str) -> dict[int, list[tuple[Any, ...]]]:
    """Return the references of each image, in docker's order, with their targets and pins."""
    kinds = (INTEGER, INTEGER, TEXT, TEXT, TEXT_OR_NULL, INTEGER)
    found: dict[int, list[tuple[Any, ...]]] = {}
    for key, *rest in sorted(
        typed(cursor.execute(statements.LISTED_REFERENCES, (keys,)), kinds), key=lambda row: row[:4]
    ):
        found.setdefault(key, []).append(tuple(rest))
    return found


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)
