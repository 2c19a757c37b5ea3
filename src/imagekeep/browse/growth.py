"""The growth of a node over time, from its history, and a plain SVG of it; does no I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.questions.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WIDTH, HEIGHT = 720, 200
LEFT, BOTTOM, TOP, RIGHT = 64, 24, 12, 8
"""Margins of the chart, for its labels."""

POINTS = 400
"""Maximum points of the chart; more cannot be told apart."""


class Change(NamedTuple):
    """A row of the history: what a reference names from then on; None if it vanished. `at` is in microseconds."""

    at: int
    reference: str
    image_id: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Point:
    """The node at one time: how many images, and the sum of their sizes in bytes; `at` is in microseconds."""

    at: int
    images: int
    size: int


def grow(changes: Iterable[Change]) -> Iterator[Point]:
    """Yield the node after each change; an image counts once however many references name it."""
    named: dict[str, str] = {}
    users: Counter[str] = Counter()
    sizes: dict[str, int] = {}
    total = 0
    for change in changes:
        before = named.pop(change.reference, None)
        if before is not None:
            users[before] -= 1
            if not users[before]:
                del users[before]
                total -= sizes.pop(before)
        if change.image_id is not None:
            named[change.reference] = change.image_id
            users[change.image_id] += 1
            total += change.size - sizes.get(change.image_id, 0)
            sizes[change.image_id] = change.size
        yield Point(change.at, len(users), total)


def thin(points: Sequence[Point]) -> list[Point]:
    """Return at most about POINTS of the points, the first and the last among them."""
    step = max(1, len(points) // POINTS)
    return [*points[:-1:step], *points[-1:]]


def chart(points: Sequence[Point], first: str, last: str) -> str:
    """Return an SVG of the sum of sizes over time, between two dates in words; empty below two points."""
    if len(points) < 2 or points[0].at == points[-1].at:
        return ""
    highest = max(max(point.size for point in points), 1)
    steps = " ".join(_steps(points, highest))
    base, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    title = escape(f"Compressed bytes of all images, from {first} to {last}")
    return (
        f'<svg class="growth" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{title}</title>"
        f'<path d="M{LEFT} {base} {steps} L{end} {base} Z" fill="#cfe2f3"/>'
        f'<path d="M{LEFT} {_y(points[0].size, highest):.1f} {steps}" fill="none" stroke="#276890"/>'
        f'<path d="M{LEFT} {TOP} V{base} H{end}" fill="none" stroke="#666"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{human(highest)}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{escape(first)}</text>'
        f'<text x="{end}" y="{HEIGHT - 6}" text-anchor="end">{escape(last)}</text>'
        "</svg>"
    )


def _steps(points: Sequence[Point], highest: int) -> Iterator[str]:
    """Yield the line: level until the next change, then straight up or down."""
    start, end = points[0].at, points[-1].at
    for point in points:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (point.at - start) / (end - start)
        yield f"H{x:.1f} V{_y(point.size, highest):.1f}"


def _y(size: int, highest: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * size / highest


def human(size: int) -> str:
    """Return a size in decimal units with three significant digits."""
    return format_size(size, 3, " ")
