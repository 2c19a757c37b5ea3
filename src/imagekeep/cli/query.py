"""`imagekeep query`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command
from imagekeep.cli.documents import document_pieces
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import NONE, table
from imagekeep.cli.options import no_heading, output_format
from imagekeep.cli.output import chunks, complain, warn, write
from imagekeep.cli.store_file import reading
from imagekeep.database.queries import identity
from imagekeep.database.query import TimeLimit, run_query
from imagekeep.database.revision import HEAD
from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.cli.settings import Settings
    from imagekeep.database.query import Answer

GRACE = 2.0
"""Seconds after the timeout in which SQLite may still notice it: it does not while one function runs."""


TIMEOUT_MAX = 86_400.0
"""A day."""


def _parse_timeout(_context: click.Context, _option: click.Parameter, seconds: float) -> float:
    """Refuse more than TIMEOUT_MAX, and NaN, which no range does."""
    if not seconds <= TIMEOUT_MAX:
        raise click.BadParameter(f"must be at most {TIMEOUT_MAX:.0f}")
    return seconds


@command(
    "imagekeep query 'SELECT reference, image_id, pinned FROM reference_list'",
    "imagekeep query -o json 'SELECT event, count(*) AS changes FROM reference_history GROUP BY event'",
)
@click.argument("sql")
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="Maximum number of rows."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=10.0,
    callback=_parse_timeout,
    show_default=True,
    help="Timeout in seconds.",
)
@no_heading
@output_format("table", "json", "yaml")
@click.pass_obj
def query_store(
    settings: Settings, sql: str, limit: int, timeout: float, no_heading: bool, output: str
) -> None:
    """Run a read-only SQL query.

    Query the views image_list, reference_list, config_list and history_list; they leave out the environment and
    the labels of configs, where secrets are kept. The tables have these too, for everyone who can read the file.
    """
    time_limit = TimeLimit(timeout)
    with reading(settings.path) as (connection, revision), _watchdog(timeout):
        if settings.namespace and revision == HEAD:
            settings.require_namespace(identity(connection.cursor()).follows)
        answer = run_query(connection, sql, settings.path, time_limit=time_limit, limit=limit)
    for chunk in time_limit.bound(chunks(_pieces(answer, output, no_heading=no_heading))):
        write(chunk)
    if answer.more:
        warn(f"there are more than {limit} rows; raise --limit to see them")


@contextlib.contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    """End the process where SQLite runs on GRACE after its time: within one function it cannot be interrupted."""

    def end() -> None:
        complain(f"query: took more than {seconds:g} s and could not be interrupted (narrow it)")
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds + GRACE, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _pieces(answer: Answer, output: str, *, no_heading: bool) -> Iterator[str]:
    """Return the pieces of an answer in the format `output`."""
    if output == "table":
        heading = [] if no_heading else [answer.columns]
        return table([*heading, *([_cell(value) for value in row] for row in answer.rows)])
    return document_pieces({"rows": list(_documents(answer))}, output)


def _documents(answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield each row by the names of its columns; raises InvalidArgumentError where two have one name."""
    if repeated := [name for name, times in Counter(answer.columns).items() if times > 1]:
        raise InvalidArgumentError(
            f"query: two columns are called {printable(repeated[0])}; name one with AS"
        )
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
