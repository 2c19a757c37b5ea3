"""Answers what images take up and what removing them would free, in the caller's transaction."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import freeing_statements as statements
from imagekeep.database.freeing import Freed, collectable_images, freed_by, names_of_images
from imagekeep.database.listing import Facts, list_images
from imagekeep.database.queries import platforms
from imagekeep.database.row_types import TEXT, TEXT_OR_NULL, typed
from imagekeep.digest import parse_query
from imagekeep.errors import FailedPreconditionError, InvalidReferenceError
from imagekeep.questions.companions import NamedTarget, with_companions
from imagekeep.questions.kubelet import bytes_to_free, eviction_order, spared, to_free, too_old
from imagekeep.reference import parse_any, parse_docker_ref

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.questions.filters import Filter
from imagekeep.questions.kubelet import Collectable, Policy


class SpaceUsed(NamedTuple):
    """What a group of images takes up, in bytes, each blob once; None means unknown.

    `reclaimable` counts the images that no container uses and nothing pins, and the bytes are what removing all of
    them frees.
    """

    name: str
    images: int
    in_use: int
    pinned: int
    reclaimable: int
    content_bytes: int | None
    unpacked_bytes: int | None
    reclaimable_content_bytes: int | None
    reclaimable_unpacked_bytes: int | None


class Step(NamedTuple):
    """An image that a plan removes, and what that frees after the steps before it; None if unknown."""

    image: Collectable
    names: tuple[str, ...]
    reason: str
    frees_content_bytes: int | None
    frees_unpacked_bytes: int | None


def size_of_set(cursor: sqlite.Cursor, names: Iterable[str]) -> tuple[list[str], Freed]:
    """Return the references that names stand for, and what removing exactly these frees.

    A reference stands for itself and its companions, an id for every reference of its image, on any platform.
    Raises ImageNotFoundError and AmbiguousError.
    """
    by_image = names_of_images(cursor)
    known = {reference for references in by_image.values() for reference in references}
    chosen = [found for name in names for found in _references(name, by_image, known)]
    rows = typed(cursor.execute(statements.NAMED_TARGETS), (TEXT, TEXT, TEXT_OR_NULL))
    references = with_companions(chosen, [NamedTarget(*row) for row in rows])
    return references, freed_by(cursor, [references])


def _references(name: str, by_image: Mapping[str, list[str]], known: Collection[str]) -> list[str]:
    for spelling in _spellings(name):
        if spelling in known:
            return [spelling]
    return by_image[parse_query(name).choose(by_image)]


def _spellings(name: str) -> Iterable[str]:
    yield name
    with suppress(InvalidReferenceError):  # it may be an id
        if parse_any(name).name:
            yield str(parse_docker_ref(name))


def space_used(cursor: sqlite.Cursor, now: int, by: str | None = None) -> list[SpaceUsed]:
    """Return what all images take up, or those of each registry or repository, by name.

    An image with names in several groups counts in each, and so do the bytes that groups share.
    """
    images = {image.image_id: image for image in collectable_images(cursor, now)}
    names = names_of_images(cursor)
    groups: dict[str, list[str]] = {}
    for image_id, references in names.items():
        for group in {_group(reference, by) for reference in references}:
            groups.setdefault(group, []).append(image_id)
    if by is None:
        groups.setdefault("", [])
    return [_used(cursor, name, [images[each] for each in groups[name]], names) for name in sorted(groups)]


def _group(reference: str, by: str | None) -> str:
    """Return the registry or repository of a reference; empty if it has none, or all images are one group."""
    with suppress(InvalidReferenceError):
        parsed = parse_any(reference)
        return {"registry": parsed.domain, "repository": parsed.name}.get(by or "", "")
    return ""


def _used(
    cursor: sqlite.Cursor, name: str, images: Sequence[Collectable], names: Mapping[str, list[str]]
) -> SpaceUsed:
    unneeded = [image for image in images if not (image.pinned or image.in_use)]
    everything = freed_by(cursor, [_names_of(images, names)])
    reclaimable = freed_by(cursor, [_names_of(unneeded, names)])
    return SpaceUsed(
        name,
        len(images),
        sum(image.in_use for image in images),
        sum(image.pinned for image in images),
        len(unneeded),
        _sum(everything.content.total, everything.content.kept),
        _sum(everything.unpacked.total, everything.unpacked.kept),
        reclaimable.content.total,
        reclaimable.unpacked.total,
    )


def _names_of(images: Iterable[Collectable], names: Mapping[str, list[str]]) -> list[str]:
    return [name for image in images for name in names[image.image_id]]


def _sum(freed: int | None, kept: int | None) -> int | None:
    return None if freed is None or kept is None else freed + kept


def plan_to_free(cursor: sqlite.Cursor, policy: Policy, now: int, target: int) -> list[Step]:
    """Return the steps, in a kubelet's order, that really free `target` bytes of content, or all that may go."""
    ordered = [
        image for image in eviction_order(collectable_images(cursor, now)) if not spared(image, policy, now)
    ]
    steps = _steps(cursor, ordered, [])
    freed = 0
    for number, step in enumerate(steps):
        freed += step.frees_content_bytes or 0
        if freed >= target:
            return steps[: number + 1]
    return steps


def plan_to_prune(cursor: sqlite.Cursor, filters: Sequence[Filter], now: int) -> list[Step]:
    """Return the steps that remove every image that passes the filters and that nothing uses or pins.

    Raises FailedPreconditionError if the source has not said which containers there are, and as `list_images` does.
    """
    (looked,) = cursor.execute(statements.CONTAINERS_AT).fetchone() or (None,)
    if looked is None:
        raise FailedPreconditionError("the source has not said which containers it has (sync first)")
    keys = [platform.key for platform in platforms(cursor)]
    chosen = {image.id for image in list_images(cursor, filters, Facts(), now, keys)}
    ordered = eviction_order(collectable_images(cursor, now))
    return _steps(cursor, [image for image in ordered if image.image_id in chosen], [])


class Disk(NamedTuple):
    """The filesystem of the images, in bytes."""

    capacity: int
    available: int


class KubeletPlan(NamedTuple):
    """The steps of a kubelet, and how much it needs to free after those for age; None below its high threshold."""

    steps: list[Step]
    target: int | None


def plan_of_kubelet(cursor: sqlite.Cursor, policy: Policy, now: int, disk: Disk) -> KubeletPlan:
    """Return what a kubelet would do that has run for longer than the maximum age.

    It adds up the sizes of images, although layers that they share are freed only once. Raises
    InvalidArgumentError for a filesystem of unknown size.
    """
    ordered = eviction_order(collectable_images(cursor, now))
    old = too_old(ordered, policy, now, began=0)
    steps = _steps(cursor, [], old)
    freed = sum(
        step.image.size if step.frees_content_bytes is None else step.frees_content_bytes for step in steps
    )
    target = bytes_to_free(disk.capacity, disk.available + freed, policy)
    if target is None:
        return KubeletPlan(steps, None)
    left = [image for image in ordered if image not in old]
    return KubeletPlan(_steps(cursor, to_free(left, policy, now, target), old), target)


def _steps(cursor: sqlite.Cursor, space: Sequence[Collectable], old: Sequence[Collectable]) -> list[Step]:
    names = names_of_images(cursor)
    images = [*old, *space]
    freed = freed_by(cursor, [names[image.image_id] for image in images])
    return [
        Step(image, tuple(names[image.image_id]), "age" if number < len(old) else "space", content, unpacked)
        for number, (image, content, unpacked) in enumerate(
            zip(images, freed.content.freed, freed.unpacked.freed, strict=True)
        )
    ]
