"""Suggests a reference of the store for a name that it does not have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.cli.stored_names import FAMILIAR
from imagekeep.errors import ImageNotFoundError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_HUB = "docker.io/"

MOST = 3
"""Maximum distance of a misspelling."""

_LONGEST = 300
"""Maximum length of a name that is compared; a longer one is not a misspelling."""


@contextlib.contextmanager
def suggesting(name: str, references: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Add the nearest reference to an ImageNotFoundError about `name`; `references` is only called then."""
    try:
        yield
    except ImageNotFoundError as error:
        advice = advice_for(name, references())
        if advice is None:
            raise
        raise ImageNotFoundError(f"{error} ({advice})") from None


def advice_for(name: str, references: Iterable[str]) -> str | None:
    """Return `did you mean …?` with the reference nearest to a name, or None."""
    found = nearest(name, references)
    return found and f"did you mean {printable(found)!r}?"


def nearest(name: str, references: Iterable[str]) -> str | None:
    """Return the reference nearest to a name, shortened like the name, or None if all are too different.

    The distance is the number of characters to insert, delete, replace, or swap with the next, at most MOST and a
    quarter of the name. A name without a tag, or without a registry, is compared with the same part of each
    reference; among equals the shortest reference wins.
    """
    wanted = name.lower()
    best: tuple[int, int, str] | None = None
    limit = min(MOST, max(1, len(wanted) // 4))
    if len(wanted) > _LONGEST:
        return None
    for reference in references:
        shown = familiar(reference)
        for spelling in _spellings(reference, wanted):
            distance = edit_distance(wanted, spelling.lower(), limit)
            if distance is not None and (best is None or (distance, len(shown), shown) < best):
                best, limit = (distance, len(shown), shown), distance
    return best and best[2]


def familiar(reference: str) -> str:
    """Return a reference without `docker.io/library/` or `docker.io/`."""
    return reference.removeprefix(FAMILIAR).removeprefix(_HUB)


def _spellings(reference: str, wanted: str) -> Iterator[str]:
    """Yield the parts of a reference that a name could mean: with as much of a tag or path as the name has."""
    short = familiar(reference)
    for each in {reference, short, short.rpartition("/")[2]} if "/" not in wanted else {reference, short}:
        yield each
        if not _has_tag(wanted):
            yield each.partition("@")[0] if "@" in each else _untagged(each)


def _has_tag(name: str) -> bool:
    return ":" in name.rpartition("/")[2]


def _untagged(name: str) -> str:
    return name.rpartition(":")[0] if _has_tag(name) else name


def edit_distance(left: str, right: str, limit: int) -> int | None:
    """Return the edit distance of two texts with swaps of neighbours, or None if it is more than `limit`."""
    if abs(len(left) - len(right)) > limit or len(set(left) ^ set(right)) > 2 * limit:
        return None
    left, right = _without_prefix(left, right)
    left, right = _without_prefix(left[::-1], right[::-1])
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > limit and min(before) > limit:
            return None
    return row[-1] if row[-1] <= limit else None


def _without_prefix(left: str, right: str) -> tuple[str, str]:
    """Return two texts without their common prefix; they do not change the distance."""
    shorter = min(len(left), len(right))
    pairs = enumerate(zip(left, right, strict=False))
    number = next((number for number, (a, b) in pairs if a != b), shorter)
    return left[number:], right[number:]
