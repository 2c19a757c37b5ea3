"""Keeps a store's platforms, and turns what was observed for them into changes, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import queries, statements
from imagekeep.database.writes import write_changes
from imagekeep.errors import ImagekeepError
from imagekeep.platform import ALL_PLATFORMS
from imagekeep.transition import FIRST, ReferenceChange, change_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Observation
    from imagekeep.transition import KeptPlatform, ReferenceState


def keep_platforms(cursor: sqlite.Cursor, names: Sequence[str]) -> list[KeptPlatform]:
    """Return these platforms of the store, in this order; add those that it does not keep yet."""
    kept = {platform.name: platform for platform in queries.platforms(cursor)}
    if kept.keys() >= set(names):
        return [kept[name] for name in names]
    for name in names:
        if None in kept:
            cursor.execute(statements.SET_FIRST_PLATFORM, {"platform": name})
            del kept[None]
        cursor.execute(statements.ADD_PLATFORM, {"platform": name})
    return keep_platforms(cursor, names)


def changes_to(
    cursor: sqlite.Cursor, names: Sequence[str], observed: Mapping[str, Observation]
) -> list[ReferenceChange]:
    """Return the changes that update references to what was observed, for each platform by itself.

    What could not be read for a platform stays there as it is. A reference that is gone from the source is deleted
    for the platforms with these names, ALL_PLATFORMS being every one that the store keeps.
    """
    found = {name for observation in observed.values() for name in (*observation.images, *observation.asked)}
    if ALL_PLATFORMS in names:
        found.update(platform.name for platform in queries.platforms(cursor) if platform.name is not None)
    platforms = keep_platforms(cursor, [*names, *sorted(found.difference(names))])
    states = [
        (platform, queries.states_of(cursor, observed, platform.key))
        for platform in platforms
        if platform.name != ALL_PLATFORMS
    ]
    return [
        change
        for reference, observation in observed.items()
        for change in _changes_of(reference, observation, states)
    ]


def _changes_of(
    reference: str,
    observation: Observation,
    states: Sequence[tuple[KeptPlatform, Mapping[str, ReferenceState]]],
) -> Iterator[ReferenceChange]:
    """Yield the change of a reference for each platform for which the source answered.

    Where it neither was nor is, only the first platform has a change, which says so.
    """
    for platform, known in states:
        said = observation.says_of(platform.name)
        if said == "not asked" or isinstance(said, ImagekeepError):
            continue
        image = None if said == "gone" else said
        before = known.get(reference)
        if image is not None or before is not None or platform is states[0][0]:
            yield change_to(reference, before, image, platform, observation.target)


def drop_platforms(cursor: sqlite.Cursor, names: Sequence[str], now: int) -> None:
    """Keep images for these platforms only; the first of them becomes the store's first."""
    wanted = keep_platforms(cursor, names)
    dropped = [platform for platform in queries.platforms(cursor) if platform not in wanted]
    for platform in dropped:
        states = queries.states_of_platform(cursor, platform.key)
        vanished = [change_to(name, before, None, platform) for name, before in states.items()]
        write_changes(cursor, vanished, now)
        if platform.key == FIRST.key:
            cursor.execute(statements.FORGET_FIRST_PLATFORM)
        else:
            cursor.execute(statements.REMOVE_PLATFORM, {"platform_key": platform.key})
    if wanted[0].key != FIRST.key:
        _make_first(cursor, wanted[0])


def _make_first(cursor: sqlite.Cursor, platform: KeptPlatform) -> None:
    """Exchange the keys of a platform and of the store's first."""
    cursor.execute(statements.DEFER_FOREIGN_KEYS)
    for old, new in ((FIRST.key, _SPARE), (platform.key, FIRST.key), (_SPARE, platform.key)):
        for statement in (
            statements.RENUMBER_IMAGES,
            statements.RENUMBER_REFERENCES,
            statements.RENUMBER_PLATFORM,
        ):
            cursor.execute(statement, (old, new))
    cursor.execute(statements.REMOVE_UNNAMED_PLATFORM)


_SPARE = -1
"""A key that no platform keeps."""
