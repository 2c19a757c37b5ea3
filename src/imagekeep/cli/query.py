"""`imagekeep query`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, no_heading, row_format
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import counted
from imagekeep.cli.output import chunks, print_error, print_message, write
from imagekeep.cli.pager import paging
from imagekeep.cli.query_input import parse_parameter, read_statement
from imagekeep.cli.query_names import complete_named, find_named, list_named
from imagekeep.cli.rows import Column, Listing, row_pieces, write_rows
from imagekeep.cli.settings import read_store
from imagekeep.database.query import EXPLAIN, TimeLimit, run_query
from imagekeep.database.revision import HEAD, require_head
from imagekeep.database.status import identity
from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.database.query import Answer

GRACE = 2.0
"""Seconds after the timeout before the process is ended; SQLite cannot be interrupted within one function."""

TIMEOUT_MAX = 86_400.0
"""Maximum timeout in seconds: one day."""


def _parse_timeout(_context: click.Context, _option: click.Parameter, seconds: float) -> float:
    """Refuse more than TIMEOUT_MAX, and NaN, which click's ranges accept."""
    if not seconds <= TIMEOUT_MAX:
        raise click.BadParameter(f"must be at most {TIMEOUT_MAX:.0f}")
    return seconds


def _parse_parameters(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str | float | None]:
    """Return the parameters by name; raises BadParameter for one that is given twice."""
    parsed: dict[str, str | float | None] = {}
    for each in given:
        name, value = parse_parameter(each)
        if name in parsed:
            raise click.BadParameter(f"{name} is given twice")
        parsed[name] = value
    return parsed


@command(
    "imagekeep query 'SELECT reference, image_id, pinned FROM reference_list'",
    "imagekeep query -o csv -p tag=1.36 'SELECT image_list.id, size FROM image_list, json_each(reference_names) "
    "WHERE value LIKE :tag'",
    "echo 'SELECT event, count(*) AS changes FROM history_list GROUP BY event' | imagekeep query -o json -",
    "imagekeep query --named",
    "imagekeep query --named largest",
    "imagekeep query --named latest-at -p reference=busybox:1.36 -p time=now",
    "imagekeep query --explain 'SELECT size FROM image_list WHERE id = 1'",
)
@click.argument("sql", required=False)
@click.option(
    "--named",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    shell_complete=complete_named,
    help="Run a named query; without NAME, list them.",
)
@click.option("--show", is_flag=True, help="Print the SQL of a named query instead of running it.")
@click.option("-f", "--file", "path", metavar="FILE", help="Read the query from a file; - is standard input.")
@click.option(
    "-p",
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse_parameters,
    help="Set :NAME to a text, or with NAME:=VALUE to a number or null.",
)
@click.option("--explain", is_flag=True, help="Show SQLite's query plan instead of running the query.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="ROWS",
    default=1000,
    show_default=True,
    help="Maximum number of rows.",
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
@row_format()
@click.pass_obj
def query_store(
    settings: Settings,
    sql: str | None,
    path: str | None,
    named: str | None,
    show: bool,
    parameters: dict[str, str | float | None],
    explain: bool,
    limit: int,
    timeout: float,
    no_heading: bool,
    output: str,
) -> None:
    """Run a read-only SQL query.

    SQL is one SELECT, or - for standard input. `imagekeep schema` describes the views. They omit the environment
    and labels of configs, which may hold secrets; the tables include them.
    """
    if show and not named:
        raise click.UsageError("--show needs --named NAME")
    if named == "":
        write_rows(list_named(), output, heading=not no_heading)
        return
    query = None if named is None else find_named(named, sql, path)
    if query is not None and show:
        write(query.sql)
        return
    statement = read_statement(sql, path) if query is None else query.sql
    if query is not None:
        parameters = query.values(parameters)
    time_limit = TimeLimit(timeout)
    with read_store(settings.path) as (connection, revision), _watchdog(timeout):
        if settings.namespace and revision == HEAD:
            settings.require_namespace(identity(connection.cursor()).follows)
        if query is not None:
            require_head(revision, settings.path)
        answer = run_query(
            connection,
            EXPLAIN + statement if explain else statement,
            settings.path,
            parameters=parameters,
            time_limit=time_limit,
            limit=limit,
        )
    listing = plan_listing(answer.rows) if explain else _listing(answer, output)
    pieces = row_pieces(listing, output, heading=not no_heading)
    with paging():
        for chunk in time_limit.bound(chunks(pieces)):
            write(chunk)
    if answer.more:
        print_message(f"only the first {counted(limit, 'row')} shown (raise --limit to see more)")


@contextlib.contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    """End the process if SQLite is still running GRACE seconds after the timeout."""

    def end() -> None:
        print_error(f"query: took more than {seconds:g} s and could not be interrupted (narrow it)")
        os._exit(ExitCode.FAILED)

    timer = threading.Timer(seconds + GRACE, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _listing(answer: Answer, output: str) -> Listing:
    """Return an answer's rows; raises InvalidArgumentError if an object would have two keys of one name."""
    repeated = [name for name, times in Counter(answer.columns).items() if times > 1]
    if repeated and output in ("json", "jsonl", "yaml"):
        raise InvalidArgumentError(
            f"query: two columns are named {printable(repeated[0])!r} (rename one with AS)"
        )
    return Listing([Column(name, heading=name) for name in answer.columns], answer.rows)


def plan_listing(rows: Sequence[tuple[Any, ...]]) -> Listing:
    """Return a query plan: a step per row, indented beneath its parent in a table."""
    depths = {0: -1}
    for step, parent, *_ in rows:
        depths[step] = depths.get(parent, -1) + 1
    lines = [(step, parent, f"{'  ' * depths[step]}{detail}") for step, parent, _, detail in rows]
    documents = [{"id": step, "parent": parent, "detail": detail} for step, parent, _, detail in rows]
    return Listing([Column("id"), Column("parent"), Column("detail")], lines, documents=lambda: documents)
