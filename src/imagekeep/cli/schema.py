"""`imagekeep schema`: the views and tables of a store, and what their columns mean."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command, no_heading, row_format
from imagekeep.cli.rows import Column, Listing, write_rows
from imagekeep.errors import InvalidArgumentError, printable
from imagekeep.schema import metadata, views

if TYPE_CHECKING:
    from sqlalchemy import Table


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the matching views and tables."""
    return [name for name in (*views.tables, *metadata.tables) if name.startswith(incomplete)]


@command("imagekeep schema", "imagekeep schema reference_list", "imagekeep schema -o json image_list")
@click.argument("name", required=False, shell_complete=complete_names)
@no_heading
@row_format()
def show_schema(name: str | None, output: str, no_heading: bool) -> None:
    """Show the views for SQL, or the columns of one.

    The views are stable: a release may add columns, and changes or removes one only with a new contract version.
    The tables are imagekeep's own and may change with every release.
    """
    listing = _list_all() if name is None else _list_columns(_find(name))
    write_rows(listing, output, heading=not no_heading)


def _list_all() -> Listing:
    rows = [
        *((table.name, "view", table.comment) for table in views.tables.values()),
        *((table.name, "table", table.comment) for table in metadata.tables.values()),
    ]
    return Listing([Column("name"), Column("kind"), Column("meaning")], rows, "schema")


def _list_columns(table: Table) -> Listing:
    rows = [(column.name, str(column.type), column.comment) for column in table.columns]
    columns = [Column("column"), Column("type"), Column("meaning", lambda text: text or "")]
    return Listing(columns, rows, "columns", beside={"name": table.name, "meaning": table.comment})


def _find(name: str) -> Table:
    """Return a view or table; raises InvalidArgumentError."""
    known = {**metadata.tables, **views.tables}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {near[0]!r}?" if near else "`imagekeep schema` lists them"
    raise InvalidArgumentError(f"no such view or table: {printable(name)} ({advice})")
