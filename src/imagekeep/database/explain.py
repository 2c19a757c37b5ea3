"""Answers why an image is here and what keeps it, in the caller's transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import question_statements as statements
from imagekeep.database.freeing import (
    collectable_images,
    find_on_any_platform,
    freed_by,
    names_of_images,
)
from imagekeep.database.history import Change, changes_of_reference
from imagekeep.database.listing import Facts, list_images
from imagekeep.database.queries import find_by_name, key_of, platforms
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, typed
from imagekeep.database.status import identity
from imagekeep.errors import ImageNotFoundError
from imagekeep.questions.filters import Filter, Operator
from imagekeep.questions.kubelet import Policy, eviction_order, spared
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from imagekeep.database.driver import sqlite
    from imagekeep.database.freeing import Freed
    from imagekeep.questions.listed import ListedImage

_NAME = (TEXT, TEXT_OR_NULL, INTEGER_OR_NULL, INTEGER)
_CONTAINER = (TEXT, TEXT, INTEGER, INTEGER_OR_NULL)
_USAGE = (INTEGER, INTEGER_OR_NULL, INTEGER)


class NamedSince(NamedTuple):
    """A name of an image: since when it names the image, and since when it pins it, None if it does not.

    The times are None if the history does not go back so far.
    """

    reference: str
    since: datetime | None
    target_digest: str | None
    verified: datetime | None
    pinned: bool
    pinned_since: datetime | None


class UsedBy(NamedTuple):
    """A container that uses an image."""

    container_id: str
    reference: str
    running: bool
    created: datetime | None


class Explanation(NamedTuple):
    """Everything that keeps an image here.

    `position` is its place among the `candidates` that a kubelet would collect, from 1; None if `kept_by` says why
    it would not.
    """

    image: ListedImage
    source: str | None
    names: Sequence[NamedSince]
    containers: Sequence[UsedBy]
    uses: int
    freed: Freed
    kept_by: Sequence[str]
    position: int | None
    candidates: int


def explain(cursor: sqlite.Cursor, name: str, now: int, platform: str | None = None) -> Explanation:
    """Explain the image with a name or id: for a platform, the store's first by default, else for any other.

    `now` is in nanoseconds. Raises ImageNotFoundError and AmbiguousError.
    """
    names = names_of_images(cursor)
    image_id = _find(cursor, name, platform, names)
    image = _image(cursor, image_id, now, platform)
    [first, *_] = platforms(cursor)
    named = [
        _since(cursor, image_id, first.name, *row)
        for row in typed(cursor.execute(statements.NAMES_OF_IMAGE, (image_id,)), _NAME)
    ]
    containers = _containers(cursor, image_id)
    _, _, uses = _usage(cursor, image_id)
    kept_by, position, candidates = _collection(cursor, image_id, named, containers, now)
    follows = identity(cursor).follows
    return Explanation(
        image,
        follows.specifier if follows else None,
        named,
        containers,
        uses,
        freed_by(cursor, [names[image_id]]),
        kept_by,
        position,
        candidates,
    )


def _find(cursor: sqlite.Cursor, name: str, platform: str | None, names: Mapping[str, Sequence[str]]) -> str:
    with suppress(ImageNotFoundError):
        return find_by_name(cursor, name, platform).id
    return find_on_any_platform(name, names)


def _image(cursor: sqlite.Cursor, image_id: str, now: int, platform: str | None) -> ListedImage:
    everything = Facts(created=True, platform=True, usage=True, state=True, sharing=True)
    wanted = [Filter("id", Operator.EQUAL, image_id)]
    if found := list_images(cursor, wanted, everything, now, [key_of(cursor, platform)]):
        return found[0]
    (platform_key,) = cursor.execute(statements.PLATFORM_KEY_OF_IMAGE, (image_id,)).fetchone()
    [image] = list_images(cursor, wanted, everything, now, [platform_key])
    return image


def _since(
    cursor: sqlite.Cursor,
    image_id: str,
    first: str | None,
    name: str,
    target: str | None,
    verified: int | None,
    pinned: int,
) -> NamedSince:
    changes = changes_of_reference(cursor, name)
    return NamedSince(
        name,
        _start(changes, image_id, first, pinned=False),
        target,
        None if verified is None else from_microseconds(verified),
        bool(pinned),
        _start(changes, image_id, first, pinned=True) if pinned else None,
    )


def _start(changes: Sequence[Change], image_id: str, first: str | None, *, pinned: bool) -> datetime | None:
    """Return when the reference began to name the image, or to pin it, and has done so without a break since.

    It does so as long as it does for one platform. A change of no platform is the first one's: it was recorded
    before the store knew platforms.
    """
    start: datetime | None = None
    holding: set[str | None] = set()
    for change in changes:
        if change.image_id == image_id and change.event != "vanished" and (change.pinned or not pinned):
            start = start if holding else change.at
            holding.add(change.platform or first)
        else:
            holding.discard(change.platform or first)
    return start if holding else None


def _containers(cursor: sqlite.Cursor, image_id: str) -> list[UsedBy]:
    rows = typed(cursor.execute(statements.CONTAINERS_OF_IMAGE, (image_id,)), _CONTAINER)
    return [
        UsedBy(
            container_id, reference, bool(running), None if created is None else from_microseconds(created)
        )
        for container_id, reference, running, created in rows
    ]


def _usage(cursor: sqlite.Cursor, image_id: str) -> tuple[int | None, int | None, int]:
    rows = list(typed(cursor.execute(statements.USAGE_OF_IMAGE, (image_id,)), _USAGE))
    return rows[0] if rows else (None, None, 0)


def _collection(
    cursor: sqlite.Cursor, image_id: str, names: Sequence[NamedSince], containers: Sequence[UsedBy], now: int
) -> tuple[list[str], int | None, int]:
    """Return why a kubelet would keep the image, else its place in the order, and how many it would remove."""
    reasons = [f"used by container {used.container_id}" for used in containers]
    reasons += [f"pinned by {named.reference}" for named in names if named.pinned]
    images = collectable_images(cursor, now)
    if not reasons and any(each.image_id == image_id and each.in_use for each in images):
        reasons.append("a container uses the image of its name for another platform")
    ordered = eviction_order(images)
    policy = Policy()
    candidates = [each for each in ordered if not spared(each, policy, now)]
    if not reasons and any(each.image_id == image_id and spared(each, policy, now) for each in ordered):
        reasons.append("seen less than two minutes ago, or used just now")
    places = {each.image_id: place for place, each in enumerate(candidates, 1)}
    return reasons, places.get(image_id), len(candidates)
