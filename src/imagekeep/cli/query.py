"""`imagekeep query`."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command
from imagekeep.cli.documents import write_document
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import NONE, table
from imagekeep.cli.options import no_heading, output_format
from imagekeep.cli.output import complain, warn, write
from imagekeep.cli.store_file import reading
from imagekeep.database.query import run_query
from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.cli.settings import Settings
    from imagekeep.database.query import Answer

GRACE = 2.0
"""Seconds after the time is over in which SQLite may still notice; it does not look up within one function."""


@command(
    "imagekeep query 'SELECT reference, image_id, pinned FROM reference_list'",
    "imagekeep query -o json 'SELECT event, count(*) AS changes FROM reference_history GROUP BY event'",
)
@click.argument("sql")
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="The most rows to show."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="The longest to take.",
)
@no_heading
@output_format("table", "json", "yaml")
@click.pass_obj
def query_store(
    settings: Settings, sql: str, limit: int, timeout: float, no_heading: bool, output: str
) -> None:
    """Ask the store in SQL, which can only read.

    The views image_list, reference_list, config_list and history_list are made for it; they leave out what a
    config's environment and labels hold. Whoever may read the file may ask its tables for that too.
    """
    with reading(settings.path) as (connection, _), ending(timeout + GRACE):
        answer = run_query(connection, sql, settings.path, seconds=timeout, limit=limit)
    if output == "table":
        heading = [] if no_heading else [answer.columns]
        write(table([*heading, *([_cell(value) for value in row] for row in answer.rows)]))
    else:
        write_document({"rows": list(_documents(answer))}, output)
    if answer.more:
        warn(f"there are more than {limit} rows; give --limit to see them")


@contextlib.contextmanager
def ending(seconds: float) -> Iterator[None]:
    """End the process where what is inside has not come back by then; SQLite cannot always be interrupted."""

    def end() -> None:
        complain(f"query: it took more than {seconds - GRACE:g} s, and could not be interrupted; narrow it")
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _documents(answer: Answer) -> Iterator[dict[str, Any]]:
    """Give each row by the names of its columns; raises InvalidArgumentError where two have one name."""
    for name in answer.columns:
        if answer.columns.count(name) > 1:
            raise InvalidArgumentError(f"query: two columns are called {printable(name)}; name one with AS")
    for row in answer.rows:
        yield {name: _plain(value) for name, value in zip(answer.columns, row, strict=True)}


def _cell(value: Any) -> str:
    """Return a value as a table shows it."""
    return NONE if value is None else str(_plain(value))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes as text where they are UTF-8, else in hex as SQL writes them."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"x'{value.hex()}'"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value
