"""Rows in every output format: table, json, jsonl, yaml, csv and tsv.

A command describes its columns once. A table shows each value as people read it; csv and tsv have the same columns
with the values themselves. json and yaml have one document, a list under a name; jsonl has one line per element of
its lists. An element is an object with the columns' keys, unless the command gives documents.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.cli.formats import NONE, human_size, table, truncate
from imagekeep.cli.output import chunks, is_terminal, wants_color, write
from imagekeep.cli.pager import paging
from imagekeep.escaping import escape, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Documents = Callable[[], Iterable[Any]]

_BOLD, _NORMAL = "\x1b[1m", "\x1b[0m"

_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""As PostgreSQL and MySQL write them: a value has no tab and no newline."""

_CSV_SPECIAL = frozenset('",\r\n')


def as_text(value: Any) -> str:
    """Return a value for a table: `<none>` for None, true or false, JSON for a list."""
    return NONE if value is None else _text(value)


def as_id(value: str | None) -> str:
    """Return a truncated id or digest for a table."""
    return truncate(value) if value else NONE


def as_size(value: int | None) -> str:
    """Return a size in decimal units for a table."""
    return NONE if value is None else human_size(value)


class Column(NamedTuple):
    """A column: its key in csv, tsv and JSON, how a table shows a value, and the table's heading.

    The heading is the key in capitals unless given.
    """

    key: str
    show: Callable[[Any], str] = as_text
    heading: str | None = None

    def title(self) -> str:
        """Return the heading in a table."""
        return self.key.upper().replace("_", " ") if self.heading is None else self.heading


class Listing(NamedTuple):
    """Rows with their columns, and what JSON has instead of them or besides them.

    `name` is the key of the list in json and yaml, `beside` the keys before it. `documents` returns the elements of
    the list if they are not simply the rows. In jsonl, the elements of a list in `beside` follow those.
    """

    columns: Sequence[Column]
    rows: Iterable[Sequence[Any]]
    name: str = "rows"
    documents: Documents | None = None
    beside: Mapping[str, Any] = {}

    def elements(self) -> Iterable[Any]:
        """Return the elements of the list in json, jsonl and yaml."""
        if self.documents is not None:
            return self.documents()
        keys = [column.key for column in self.columns]
        return (dict(zip(keys, map(plain, row), strict=True)) for row in self.rows)

    def lines(self) -> Iterator[Any]:
        """Yield what jsonl has one line for."""
        yield from self.elements()
        for value in self.beside.values():
            yield from value if isinstance(value, list) else ()


def write_rows(listing: Listing, output: str, *, heading: bool = True) -> None:
    """Write rows in one of ROW_FORMATS, through a pager on a terminal; raises OutputError."""
    pieces = row_pieces(listing, output, heading=heading)
    with paging():
        for chunk in chunks(pieces):
            write(chunk)


def row_pieces(listing: Listing, output: str, *, heading: bool = True) -> Iterator[str]:
    """Return rows in one of ROW_FORMATS, in pieces; call it while standard output is not yet a pager."""
    if output == "table":
        return _table(listing, heading=heading)
    if output in ("csv", "tsv"):
        return _separated(listing, output, heading=heading, escaped=is_terminal())
    # Imported here because a table needs no JSON.
    from imagekeep.cli.documents import document_pieces, line_pieces

    if output == "jsonl":
        return (piece for each in listing.lines() for piece in line_pieces(each))
    return document_pieces({**listing.beside, listing.name: list(listing.elements())}, output)


def plain(value: Any) -> Any:
    """Return a value that JSON can represent; bytes become text if they are UTF-8, else an SQL hex literal."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"x'{value.hex()}'"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value


def _text(value: Any) -> str:
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, list | tuple | dict):
        return str(value)
    import json  # few columns are lists

    return json.dumps(value)


def _table(listing: Listing, *, heading: bool) -> Iterator[str]:
    shows = [column.show for column in listing.columns]
    rows = ([show(value) for show, value in zip(shows, row, strict=True)] for row in listing.rows)
    titles = [[column.title() for column in listing.columns]] if heading else []
    pieces = table([*titles, *rows])
    return _emphasised(pieces) if heading and wants_color() else pieces


def _emphasised(pieces: Iterator[str]) -> Iterator[str]:
    """Yield a table with its heading in bold."""
    yield _BOLD
    for piece in pieces:
        if piece == "\n":
            yield f"{_NORMAL}\n"
            break
        yield piece
    yield from pieces


def _separated(listing: Listing, output: str, *, heading: bool, escaped: bool) -> Iterator[str]:
    """Yield lines of csv (RFC 4180, with plain newlines) or tsv; None is an empty value.

    On a terminal, control characters are escaped as in a table.
    """
    # In csv an empty line is not a row, so a single empty value is quoted.
    separator, quote, alone = (",", _csv, '""') if output == "csv" else ("\t", _tsv, "")
    titles = [[column.key for column in listing.columns]] if heading else []
    for row in chain(titles, listing.rows):
        for number, value in enumerate(row):
            yield separator if number else ""
            text = "" if value is None else _text(value)
            yield from quote(escape(text) if escaped else text) if text or len(row) > 1 else alone
        yield "\n"


def _csv(text: str) -> Iterable[str]:
    if _CSV_SPECIAL.isdisjoint(text):
        return (text,)
    return ('"', *(part.replace('"', '""') for part in slices(text)), '"')


def _tsv(text: str) -> Iterable[str]:
    return (part.translate(_TSV_ESCAPES) for part in slices(text))
