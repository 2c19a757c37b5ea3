"""Keeps the platforms of a store, and turns what was observed for them into changes, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import queries, statements
from imagekeep.errors import ImagekeepError
from imagekeep.platform import ALL_PLATFORMS
from imagekeep.transition import FIRST, KeptPlatform, ReferenceChange, change_to

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Observation
    from imagekeep.transition import ReferenceState


def keep_platforms(cursor: sqlite.Cursor, names: Sequence[str]) -> list[KeptPlatform]:
    """Return these platforms of the store; add those that it does not keep yet."""
    kept = queries.platforms(cursor)
    if kept[0].name is None:
        cursor.execute(statements.SET_FIRST_PLATFORM, {"platform": names[0]})
    known = {platform.name for platform in kept}
    for name in names:
        if name not in known:
            cursor.execute(statements.ADD_PLATFORM, {"platform": name})
    keys = {platform.name: platform for platform in queries.platforms(cursor)}
    return [keys[name] for name in names]


def drop_platforms(cursor: sqlite.Cursor, kept: Sequence[str]) -> None:
    """Delete the images and references for every platform but these, the first of which becomes the store's first."""
    wanted = keep_platforms(cursor, kept)
    for platform in queries.platforms(cursor):
        if platform not in wanted:
            _delete_platform(cursor, platform.key)
    first = wanted[0]
    if first.key != FIRST.key:
        _make_first(cursor, first)


def _delete_platform(cursor: sqlite.Cursor, key: int) -> None:
    cursor.execute(statements.REMOVE_REFERENCES_OF_PLATFORM, {"platform_key": key})
    if key == FIRST.key:
        cursor.execute(statements.FORGET_FIRST_PLATFORM)
    else:
        cursor.execute(statements.REMOVE_PLATFORM, {"platform_key": key})


def _make_first(cursor: sqlite.Cursor, platform: KeptPlatform) -> None:
    """Give a platform the key of the first, whose images and references were deleted."""
    cursor.execute(statements.DEFER_FOREIGN_KEYS)
    for statement in statements.MAKE_PLATFORM_FIRST:
        cursor.execute(statement, {"platform_key": platform.key})
    cursor.execute(statements.REMOVE_PLATFORM, {"platform_key": platform.key})
    cursor.execute(statements.SET_FIRST_PLATFORM, {"platform": platform.name})


def changes_to(
    cursor: sqlite.Cursor, names: Sequence[str], observed: Mapping[str, Observation]
) -> list[ReferenceChange]:
    """Return the changes that update references to what was observed, for each platform by itself.

    A reference that is gone from the source is deleted for each of the platforms with these names. What could not
    be read for a platform stays there as it is.
    """
    found = {name for observation in observed.values() for name in observation.images}
    platforms = keep_platforms(cursor, [*names, *sorted(found - set(names))])
    dynamic = ALL_PLATFORMS in names
    states = {
        platform: queries.states_of(cursor, observed, platform.key)
        for platform in platforms
        if platform.name != ALL_PLATFORMS
    }
    del dynamic
    return [
        change
        for reference, observation in observed.items()
        for change in _changes_of(reference, observation, states)
    ]


def _changes_of(
    reference: str,
    observation: Observation,
    states: Mapping[KeptPlatform, Mapping[str, ReferenceState]],
) -> Iterator[ReferenceChange]:
    """Yield the change of a reference for each platform for which its source answered."""
    for platform, known in states.items():
        before = known.get(reference)
        image = observation.image_for(platform.name)
        if isinstance(image, ImagekeepError) or (image is None and before is None and platform.key):
            continue
        yield change_to(reference, before, image, platform)
