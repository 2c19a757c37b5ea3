"""Keeps a store's platforms, and turns what was observed for them into changes, in the caller's transaction."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from imagekeep.database import queries, statements, write_statements
from imagekeep.database.writes import write_changes
from imagekeep.errors import ImagekeepError, InvalidPlatformError
from imagekeep.platform import ALL_PLATFORMS, Platform, matcher_of
from imagekeep.transition import FIRST, ReferenceChange, change_to

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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
            cursor.execute(write_statements.SET_FIRST_PLATFORM, {"platform": name})
            del kept[None]
        cursor.execute(write_statements.ADD_PLATFORM, {"platform": name})
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


def verified_states(
    cursor: sqlite.Cursor, names: Sequence[str], targets: Mapping[str, str]
) -> list[tuple[KeptPlatform, Mapping[str, ReferenceState]]]:
    """Return, for each platform, the states of the references whose targets the store has read for it.

    `targets` has the target of each reference at the source. Left out is a reference whose target has a manifest
    for a platform that does not know it yet, such as one that the store keeps only now.
    """
    platforms = keep_platforms(cursor, names)
    if takes_all := ALL_PLATFORMS in names:
        platforms += [each for each in queries.platforms(cursor) if each not in platforms]
    known = [
        (platform, _current(queries.states_of(cursor, targets, platform.key), targets))
        for platform in platforms
        if platform.name != ALL_PLATFORMS
    ]
    lacking = {
        name: [platform.name for platform, states in known if name not in states]
        for name in set().union(*(states for _, states in known))
    }
    wanted = {targets[name] for name, missing in lacking.items() if missing or takes_all}
    readable = _readable_platforms(cursor, wanted)
    kept = {platform.name for platform, _ in known}
    unread = {
        name
        for name, missing in lacking.items()
        if any(has_image(readable.get(targets[name], []), platform) for platform in missing if platform)
        or (takes_all and any(entry not in kept for entry, _ in readable.get(targets[name], []) if entry))
    }
    return [
        (platform, {name: state for name, state in states.items() if name not in unread})
        for platform, states in known
    ]


def _current(states: Mapping[str, ReferenceState], targets: Mapping[str, str]) -> dict[str, ReferenceState]:
    return {name: state for name, state in states.items() if state.has_read(targets.get(name))}


def _readable_platforms(cursor: sqlite.Cursor, targets: Collection[str]) -> dict[str, list[tuple[str, bool]]]:
    """Return the platforms of the manifests that the store has read beneath each target.

    Beside each is whether the target is that manifest, which containerd takes for every platform.
    """
    found: dict[str, list[tuple[str, bool]]] = {}
    if targets:
        for target, platform, is_target in cursor.execute(
            statements.READABLE_PLATFORMS, (json.dumps(list(targets)),)
        ):
            found.setdefault(target, []).append((platform or "", bool(is_target)))
    return found


def has_image(entries: Iterable[tuple[str, bool]], platform: str) -> bool:
    """Return whether one of these manifests may be the image for a platform."""
    matches = matcher_of(platform).matches
    for entry, is_target in entries:
        if is_target:
            return True
        with contextlib.suppress(InvalidPlatformError):  # an index may say anything
            if entry and matches(Platform.parse(entry)):
                return True
    return False


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
    kept = queries.platforms(cursor)
    dropped = [] if ALL_PLATFORMS in names else [platform for platform in kept if platform not in wanted]
    for platform in dropped:
        states = queries.states_of_platform(cursor, platform.key)
        vanished = [change_to(name, before, None, platform) for name, before in states.items()]
        write_changes(cursor, vanished, now)
        if platform.key == FIRST.key:
            cursor.execute(write_statements.FORGET_FIRST_PLATFORM)
        else:
            cursor.execute(write_statements.REMOVE_PLATFORM, {"platform_key": platform.key})
    if wanted[0].key != FIRST.key:
        _make_first(cursor, wanted[0])


def _make_first(cursor: sqlite.Cursor, platform: KeptPlatform) -> None:
    """Exchange the keys of a platform and of the store's first."""
    cursor.execute(write_statements.DEFER_FOREIGN_KEYS)
    for old, new in ((FIRST.key, _SPARE), (platform.key, FIRST.key), (_SPARE, platform.key)):
        for statement in (
            write_statements.RENUMBER_IMAGES,
            write_statements.RENUMBER_REFERENCES,
            write_statements.RENUMBER_PLATFORM,
        ):
            cursor.execute(statement, (old, new))
    cursor.execute(write_statements.REMOVE_UNNAMED_PLATFORM)


_SPARE = -1
"""A key that no platform keeps."""
