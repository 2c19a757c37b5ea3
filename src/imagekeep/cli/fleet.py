"""`imagekeep fleet`: the questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.centre_options import asking
from imagekeep.cli.command import command, no_heading, no_truncation, row_format
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import NONE, counted, format_time
from imagekeep.cli.output import print_message, write_all, write_line
from imagekeep.cli.rows import Column, Listing, as_id, as_size, as_text, write_rows
from imagekeep.errors import InvalidArgumentError, printable
from imagekeep.escaping import escape
from imagekeep.times import from_microseconds, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagekeep.cli.centre_options import Asked
    from imagekeep.fleet.questions import Row


def as_moment(value: datetime | str | None) -> str:
    """Return a time for a table."""
    return NONE if value is None else str(plain(value))


def plain(value: Any) -> Any:
    """Return a value of PostgreSQL as JSON and csv have it: a time in RFC 3339, a duration in seconds."""
    if isinstance(value, datetime):
        return format_time(value.astimezone(UTC))
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def write_found(
    columns: Sequence[Column], rows: Iterable[Row], name: str, output: str, no_heading: bool
) -> None:
    """Write the rows of an answer."""
    found = [tuple(map(plain, row)) for row in rows]
    write_rows(Listing(columns, found, name), output, heading=not no_heading)


def _ids(no_trunc: bool) -> tuple[Column, Column]:
    show = as_text if no_trunc else as_id
    return Column("image_id", show), Column("target_digest", show, "TARGET")


_NODES = (Column("node"), Column("status"), Column("reported_at", as_moment, "REPORTED"))


@command("imagekeep fleet holds busybox:1.36", "imagekeep fleet holds --count 1a9e8c72b711")
@click.argument("image", metavar="IMAGE|DIGEST|LAYER")
@click.option("--count", is_flag=True, help="Show only the number of nodes.")
@click.option("-q", "--quiet", is_flag=True, help="Show only the nodes' names.")
@asking
@no_truncation
@no_heading
@row_format()
def holds(
    asked: Asked, image: str, count: bool, quiet: bool, no_trunc: bool, no_heading: bool, output: str
) -> int:
    """Show the nodes that have an image, a target or a layer.

    The argument is a reference, or a full or truncated digest: an image id, the digest of a manifest or index that
    a reference points at, or a layer's diff id. The exit code is 1 if no node has it.
    """
    with asked.open() as (fleet, questions):
        found = questions.holds(fleet, questions.find_subject(fleet, image))
    nodes = sorted({row[0] for row in found})
    if count:
        write_line(str(len(nodes)))
    elif quiet:
        write_all(f"{escape(node)}\n" for node in nodes)
    else:
        columns = [
            Column("node"),
            Column("reference"),
            *_ids(no_trunc),
            Column("pinned"),
            Column("since", as_moment),
        ]
        write_found(columns, found, "nodes", output, no_heading)
    return ExitCode.OK if nodes else ExitCode.NOT_FOUND


@command("imagekeep fleet lacks busybox:1.36", "imagekeep fleet lacks --pinned registry.k8s.io/pause:3.9")
@click.argument("image", metavar="IMAGE|DIGEST|LAYER")
@click.option("--pinned", is_flag=True, help="Also show nodes that have it without a pin.")
@click.option("-q", "--quiet", is_flag=True, help="Show only the nodes' names.")
@asking
@no_heading
@row_format()
def lacks(asked: Asked, image: str, pinned: bool, quiet: bool, no_heading: bool, output: str) -> None:
    """Show the nodes that do not have an image.

    At least one node must have it: a name that no node has is an error.
    """
    with asked.open() as (fleet, questions):
        found = questions.lacks(fleet, questions.find_subject(fleet, image), pinned=pinned)
    if quiet:
        write_all(f"{escape(row[0])}\n" for row in found)
    else:
        write_found(_NODES, found, "nodes", output, no_heading)


@command("imagekeep fleet drift", "imagekeep fleet drift busybox:latest")
@click.argument("name", metavar="[REPO[:TAG]]", required=False)
@asking
@no_truncation
@no_heading
@row_format()
def drift(asked: Asked, name: str | None, no_trunc: bool, no_heading: bool, output: str) -> None:
    """Show references that have different targets on different nodes.

    Two platforms of one multi-platform image do not count.
    """
    with asked.open() as (fleet, questions):
        found = questions.drift(fleet, name)
    columns = [Column("reference"), *_ids(no_trunc), Column("nodes")]
    write_found(columns, found, "drift", output, no_heading)


@command(
    "imagekeep fleet at web-1 'yesterday 03:00'", "imagekeep fleet at -o json web-1 2026-11-20T03:00:00Z"
)
@click.argument("node")
@click.argument("time")
@asking
@no_truncation
@no_heading
@row_format()
def at(asked: Asked, node: str, time: str, no_trunc: bool, no_heading: bool, output: str) -> None:
    """Show what a node had at a time."""
    from imagekeep.questions.moments import parse_moment

    now = timestamp()
    moment = from_microseconds(parse_moment(time, now * 1000) // 1000)
    if moment > from_microseconds(now):
        raise InvalidArgumentError(f"invalid time {printable(time)!r}: it is in the future")
    with asked.open() as (fleet, questions):
        found = questions.at(fleet, node, moment)
    columns = [Column("reference"), *_ids(no_trunc), Column("pinned"), Column("since", as_moment)]
    write_found(columns, found, "references", output, no_heading)


@command("imagekeep fleet rollout busybox:latest")
@click.argument("image")
@asking
@no_heading
@row_format()
def rollout(asked: Asked, image: str, no_heading: bool, output: str) -> None:
    """Show how many nodes gained and lost an image in each hour."""
    with asked.open() as (fleet, questions):
        found = questions.rollout(fleet, image)
    columns = [Column("hour", as_moment), Column("gained"), Column("lost"), Column("nodes")]
    write_found(columns, found, "hours", output, no_heading)


@command("imagekeep fleet silent --for 2h")
@click.option(
    "--for", "duration", metavar="DURATION", default="1h", show_default=True, help="Time without a report."
)
@asking
@no_heading
@row_format()
def silent(asked: Asked, duration: str, no_heading: bool, output: str) -> None:
    """Show nodes that have not reported for some time, or never."""
    from imagekeep.questions.moments import parse_duration

    before = from_microseconds(timestamp() - abs(parse_duration(duration)) // 1000)
    with asked.open() as (fleet, questions):
        found = fleet.rows(questions.statements.SILENT, before=before)
    write_found(_NODES, found, "nodes", output, no_heading)


@command("imagekeep fleet top", "imagekeep fleet top --limit 5 -o csv")
@click.option(
    "--limit", type=click.IntRange(1), metavar="ROWS", default=20, show_default=True, help="Maximum rows."
)
@asking
@no_truncation
@no_heading
@row_format()
def top(asked: Asked, limit: int, no_trunc: bool, no_heading: bool, output: str) -> None:
    """Show the images that take the most bytes on all nodes together."""
    with asked.open() as (fleet, questions):
        found = fleet.rows(questions.statements.TOP, rows=limit)
    columns = [_ids(no_trunc)[0], Column("nodes"), Column("bytes", as_size), Column("reference")]
    write_found(columns, found, "images", output, no_heading)


@command("imagekeep fleet status", "imagekeep fleet status --totals", "imagekeep fleet status --conflicts")
@click.option("--totals", is_flag=True, help="Show the whole fleet in numbers.")
@click.option("--conflicts", is_flag=True, help="Show disagreements between nodes, stores and the centre.")
@asking
@no_heading
@row_format()
def status(asked: Asked, totals: bool, conflicts: bool, no_heading: bool, output: str) -> None:
    """Show the nodes, and when each last reported.

    A conflicted node is refused: more than one store ships under its name. REPAIRS counts states that differed from
    the node's and were taken again.
    """
    with asked.open() as (fleet, questions):
        if totals:
            return _write_totals(fleet.rows(questions.statements.TOTALS), output, no_heading)
        if conflicts:
            columns = [
                Column("node"),
                Column("kind"),
                Column("image_id", as_id),
                Column("detail"),
                Column("at", as_moment),
            ]
            found = fleet.rows(questions.statements.CONFLICTS)
            return write_found(columns, found, "conflicts", output, no_heading)
        found = fleet.rows(questions.statements.STATUS)
    columns = [
        *_NODES, Column("epoch"), Column("sequence"), Column("version"),
        Column("hash_repairs", heading="REPAIRS"), Column("incomplete"),
    ]  # fmt: skip
    return write_found(columns, found, "nodes", output, no_heading)


def _write_totals(found: list[Row], output: str, no_heading: bool) -> None:
    names = ("nodes", "silent_nodes", "conflicted_nodes", "node_references", "pinned_references", "images")
    columns = [*map(Column, names), Column("node_images"), Column("bytes", as_size)]
    write_found(columns, found, "totals", output, no_heading)


@command("imagekeep fleet query 'SELECT node, reference FROM node_references WHERE pinned'")
@click.argument("sql")
@click.option(
    "--limit", type=click.IntRange(1), metavar="ROWS", default=1000, show_default=True, help="Maximum rows."
)
@click.option(
    "--timeout", type=click.FloatRange(0.001, 86_400), metavar="SECONDS", default=10.0, show_default=True,
    help="Timeout in seconds.",
)  # fmt: skip
@asking
@no_heading
@row_format()
def query(asked: Asked, sql: str, limit: int, timeout: float, no_heading: bool, output: str) -> None:
    """Run a read-only SQL query on the centre's views.

    The views are node_references, node_images, node_status, tag_drift, layer_nodes, silent_nodes, node_conflicts,
    fleet_totals and more; docs/fleet.md describes them. node_references_at(node, time) is a function.
    """
    from imagekeep.fleet.reading import PostgresFleet

    with PostgresFleet.open(asked.parameters("a query"), timeout) as fleet:
        answer = fleet.query(sql, limit)
    write_found([Column(name) for name in answer.columns], answer.rows, "rows", output, no_heading)
    if answer.more:
        print_message(f"only the first {counted(limit, 'row')} shown (raise --limit to see more)")
