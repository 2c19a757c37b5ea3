"""The references that containerd keeps beside a tag, and that are removed with it.

A pull by the CRI makes three references: the tag, the repository with the target's digest, and the bare image id; a
layout gets the first two. Removing the tag leaves nothing of the image only if the others go with it, so they count
as removed unless another tag needs them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import InvalidReferenceError
from imagekeep.reference import parse_any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class NamedTarget(NamedTuple):
    """A reference with the image and the target that it names; the target is None if no source was asked."""

    name: str
    image_id: str
    target: str | None


def with_companions(chosen: Iterable[str], references: Collection[NamedTarget]) -> list[str]:
    """Return the chosen references and their companions: those that only they need."""
    removed = dict.fromkeys(chosen)
    needed, offered = _needs(references, removed)
    for each in references:
        key = _need_met_by(each)
        if each.name not in removed and key is not None and key in offered and key not in needed:
            removed[each.name] = None
    return list(removed)


def _needs(references: Iterable[NamedTarget], removed: Collection[str]) -> tuple[set[object], set[object]]:
    """Return what the tags that stay need, and what those that go do."""
    found: dict[bool, set[object]] = defaultdict(set)
    for each in references:
        if _need_met_by(each) is None or each.name in removed:
            repository = _repository(each.name)
            found[each.name in removed] |= {("id", each.image_id), ("digest", repository, each.target)}
    return found[False], found[True]


def _need_met_by(each: NamedTarget) -> object | None:
    """Return what a companion is to a tag: its digest or its id; None for a reference of its own."""
    try:
        reference = parse_any(each.name)
    except InvalidReferenceError:
        return None
    if not reference.name:
        return ("id", each.image_id)
    if reference.digest and not reference.tag:
        return ("digest", reference.name, each.target)
    return None


def _repository(name: str) -> str:
    try:
        return parse_any(name).name
    except InvalidReferenceError:
        return name
