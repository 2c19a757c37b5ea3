"""Finds the values of each column in a store file (https://sqlite.org/fileformat2.html).

It reads only what a small store needs: tables and indexes whose rows are all on one page, their root.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database.driver import sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TABLE_LEAF, _INDEX_LEAF = 13, 10
_PAGE_HEADER = 8
_FIXED_LENGTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value by its serial type; from 12 on, an even one is a blob's, an odd one a text's."""


class Page(NamedTuple):
    """The root page of a table or index, with its columns in stored order."""

    number: int
    columns: tuple[str, ...]
    key: str | None
    """The column stored as the row id, if there is one."""


def places_of_columns(path: Path) -> dict[str, list[int]]:
    """Return the offsets of the bytes of each column's values, and of their serial types.

    Values have the key `table.column` or `table.column in index`; types have the same key with `, type`.
    """
    content = path.read_bytes()
    places: dict[str, list[int]] = {}
    with contextlib.closing(sqlite.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        for page in _pages(connection):
            for column, offset in _places(content[: page.number * size], (page.number - 1) * size, page):
                places.setdefault(column, []).append(offset)
    return places


def _pages(connection: sqlite.Connection) -> Iterator[Page]:
    """Yield the root page of each table and index."""
    rows = connection.execute("SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0")
    for kind, name, table, number in rows.fetchall():
        if kind == "index":
            stored = connection.execute(f'PRAGMA index_xinfo("{name}")').fetchall()
            names = tuple(f"{table}.{column or 'rowid'} in {name}" for _, _, column, *_ in stored)
            yield Page(number, names, None)
            continue
        stored = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        ((without_rowid,),) = connection.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (table,))
        if without_rowid:  # its key comes first in the row
            stored = sorted(stored, key=lambda column: (not column[5], column[5]))
        names = tuple(f"{table}.{column[1]}" for column in stored)
        key = None if without_rowid else next((n for n, c in zip(names, stored, strict=True) if c[5]), None)
        yield Page(number, names, key)


def _places(content: bytes, start: int, page: Page) -> Iterator[tuple[str, int]]:
    """Yield each column with the offset of each of its bytes in the rows of a page."""
    kind = content[start]
    if kind not in (_TABLE_LEAF, _INDEX_LEAF):
        raise ValueError(f"page {page.number} is not a leaf: the store is too large")
    for number in range(int.from_bytes(content[start + 3 : start + 5])):
        pointer = start + _PAGE_HEADER + 2 * number
        at = start + int.from_bytes(content[pointer : pointer + 2])
        _, at = _varint(content, at)
        if kind == _TABLE_LEAF:
            _, end = _varint(content, at)
            if page.key:
                yield from ((page.key, offset) for offset in range(at, end))
            at = end
        yield from _places_in_row(content, at, page)


def _places_in_row(content: bytes, start: int, page: Page) -> Iterator[tuple[str, int]]:
    """Yield each column with the offset of each byte of its value and of its serial type."""
    length, at = _varint(content, start)
    value = start + length
    for column in page.columns:
        serial, end = _varint(content, at)
        size = _FIXED_LENGTHS[serial] if serial < len(_FIXED_LENGTHS) else (serial - 12) // 2
        yield from ((f"{column}, type", offset) for offset in range(at, end))
        yield from ((column, offset) for offset in range(value, value + size))
        at, value = end, value + size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset after it."""
    number = 0
    for offset in range(at, at + 8):
        number = number << 7 | content[offset] & 0x7F
        if content[offset] < 0x80:
            return number, offset + 1
    return number << 8 | content[at + 8], at + 9
