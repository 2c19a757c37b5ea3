"""How things look: tables, sizes, truncated ids and times; nothing here reads or writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.escaping import escape, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

NONE = "<none>"
"""What stands where an image has no name, no tag or no digest."""

COLUMN_WIDTH = 20
COLUMN_GAP = 3
"""The least width of a column, and the least space after its text, both as crictl has them (display.go)."""

WIDEST = 1024
"""Characters of a cell at most to align the column to: a reference is rarely longer."""

TRUNCATED_LENGTH = 13

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows of equal length in pieces, as lines with aligned columns, escaped for a terminal.

    A cell of more than WIDEST characters does not widen its column: padding all others to its width could make
    gigabytes of one long value. It is escaped only as it is yielded.
    """
    cells = [[escape(cell) if len(cell) <= WIDEST else cell for cell in row] for row in rows]
    widths = [
        max([COLUMN_WIDTH, *(len(cell) + COLUMN_GAP for cell in column if len(cell) <= WIDEST)])
        for column in zip(*cells, strict=True)
    ]
    return (piece for row in cells for piece in _line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the pieces of one line; its last cell is not padded."""
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
    """Return the first 13 characters of a digest's hex; another algorithm's name stays (crictl: getTruncatedID)."""
    return digest.removeprefix("sha256:")[:TRUNCATED_LENGTH]


def human_size(size: int) -> str:
    """Return bytes in decimal units with three significant digits (go-units: HumanSizeWithPrecision)."""
    scaled = float(unsigned(size))
    for unit in _UNITS[:-1]:
        if scaled < 1000:
            return f"{scaled:.3g}{unit}"
        scaled /= 1000
    return f"{scaled:.3g}{_UNITS[-1]}"


def unsigned(size: int) -> int:
    """Return a size as the CRI's uint64 has it: a negative one, which a descriptor may claim, wraps."""
    return size % 2**64


def format_time(time: datetime) -> str:
    """Return a time in UTC as the store's views show it: RFC 3339 with milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number and its noun, in the plural where it is not one."""
    return f"{number} {one if number == 1 else many or one + 's'}"
