"""Formats tables, sizes, truncated ids and times; does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.escaping import escape, slices
from imagekeep.questions.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

NONE = "<none>"
"""Shown if an image has no name, tag or digest."""

COLUMN_WIDTH = 20
COLUMN_GAP = 3
"""Minimum width of a column, and minimum space after its text, as in crictl (display.go)."""

WIDEST = 1024
"""Maximum width of a cell that its column is aligned to; a reference is rarely longer."""

TRUNCATED_LENGTH = 13


def table(rows: Iterable[Sequence[str]], minimum: int = COLUMN_WIDTH) -> Iterator[str]:
    """Yield rows of equal length as aligned, escaped lines, in pieces.

    A cell longer than WIDEST does not widen its column: padding the others to its width could take gigabytes. It is
    escaped only as it is yielded.
    """
    cells = [[escape(cell) if len(cell) <= WIDEST else cell for cell in row] for row in rows]
    widths = [
        max([minimum, *(len(cell) + COLUMN_GAP for cell in column if len(cell) <= WIDEST)])
        for column in zip(*cells, strict=True)
    ]
    return (piece for row in cells for piece in _line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield one line in pieces; the last cell is not padded."""
    for cell, width in zip(row[:-1], widths, strict=False):
        if len(cell) <= WIDEST:
            yield cell.ljust(width)
        else:
            yield from _long_cell(cell)
            yield " " * COLUMN_GAP
    last = row[-1]
    yield from (last,) if len(last) <= WIDEST else _long_cell(last)
    yield "\n"


def _long_cell(cell: str) -> Iterator[str]:
    return map(escape, slices(cell))


def truncate(digest: str) -> str:
    """Return the first 13 characters of a digest without `sha256:` (crictl: getTruncatedID)."""
    return digest.removeprefix("sha256:")[:TRUNCATED_LENGTH]


def human_size(size: int) -> str:
    """Return a size in decimal units with three significant digits (go-units: HumanSizeWithPrecision)."""
    return format_size(unsigned(size), 3)


def unsigned(size: int) -> int:
    """Return a size as the CRI's uint64; a descriptor may claim a negative one, which wraps."""
    return size % 2**64


def format_time(time: datetime) -> str:
    """Return a time in UTC as RFC 3339 with milliseconds, like the store's views."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
