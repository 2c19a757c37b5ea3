"""Whether rows have the types of their columns: the tables are STRICT, but a flipped bit can make text bytes.

SQLite does not look at that when it reads, and what has another type than it says would be handed on.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from imagekeep.database.driver import sqlite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Row = TypeVar("Row", bound=tuple[Any, ...])
Texts = TypeVar("Texts", bound="Sequence[str]")

BATCH = 256
"""Rows looked at together: by columns it takes a third of the time, and only these are in memory."""

TEXT, INTEGER, BLOB = frozenset((str,)), frozenset((int,)), frozenset((bytes,))
TEXT_OR_NULL, INTEGER_OR_NULL = TEXT | {type(None)}, INTEGER | {type(None)}


class MistypedRowError(sqlite.DatabaseError):
    """Raised for a row whose values are not of its columns' types; `translate` says it of the file."""


def typed(rows: Iterable[Row], kinds: Sequence[frozenset[type]]) -> Iterator[Row]:
    """Give rows whose first columns have only values of these kinds; raises MistypedRowError for others."""
    rest = iter(rows)
    while batch := list(islice(rest, BATCH)):
        for kind, column in zip(kinds, zip(*batch, strict=True), strict=False):
            if not kind.issuperset(map(type, column)):
                raise MistypedRowError
        yield from batch


def typed_row(row: Row | None, kinds: Sequence[frozenset[type]]) -> Row:
    """Return one row that is as `typed` gives them, in less time.

    A row that an index names and its table lacks, which only a damaged file has, is None.
    """
    if row is None:
        raise MistypedRowError
    for value, kind in zip(row, kinds, strict=False):
        if type(value) not in kind:
            raise MistypedRowError
    return row


def texts(values: Texts) -> Texts:
    """Return values that are all texts; raises MistypedRowError where one is not."""
    if not TEXT.issuperset(map(type, values)):
        raise MistypedRowError
    return values
