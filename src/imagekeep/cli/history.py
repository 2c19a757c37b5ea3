"""`imagekeep image history` and `imagekeep log`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, filter_option, no_heading, no_truncation, row_format
from imagekeep.cli.formats import format_time
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.output import flush, write_all
from imagekeep.cli.rows import Column, Listing, as_id, as_text, row_pieces, write_rows
from imagekeep.cli.stored_names import complete_images
from imagekeep.cli.times import moment_option
from imagekeep.database.history import NEVER, ChangeFilter, changes, changes_of, require_event
from imagekeep.errors import ImageNotFoundError, InvalidArgumentError, printable
from imagekeep.reader import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.database.history import Change
    from imagekeep.reader import Reader

FOLLOWED_FIRST = 10
"""Past changes that --follow shows first by default."""

INTERVAL = 0.5
"""Seconds between two looks for new changes; a look reads one number unless the store has changed."""

LINE_FORMATS = ("table", "jsonl", "csv", "tsv")
"""The formats that can go on while the store changes."""

_KEYS = ("reference", "event")


@command(
    "imagekeep image history busybox:1.36",
    "imagekeep image history --since '7 days ago' -o json busybox:1.36",
)
@click.argument("image", shell_complete=complete_images)
@moment_option("--since", "Leave out earlier changes.")
@moment_option("--until", "Leave out changes at this time or later.")
@no_truncation
@no_heading
@row_format()
@click.pass_obj
def image_history(
    settings: Settings,
    image: str,
    since: int | None,
    until: int | None,
    output: str,
    no_trunc: bool,
    no_heading: bool,
) -> None:
    """Show what happened to a reference or image, and when.

    The oldest change comes first. Each row shows the image id and target after the change, or before it if the
    reference vanished. For an image id, it shows the references that named the image, and what replaced it.
    Deleted references and images keep their history.
    """
    with settings.open_reader() as reader, suggesting(image, reader.references):
        name, found = ask(reader, changes_of, image)
        if not found:
            raise ImageNotFoundError(f"no such image: {printable(image)}")
    chosen = [change for change in found if _is_between(change, since, until)]
    is_reference = name == found[0].reference
    listing = _listing(chosen, no_trunc, with_reference=not is_reference)
    beside = {"reference" if is_reference else "imageID": name}
    write_rows(listing._replace(name="history", beside=beside), output, heading=not no_heading)


@command(
    "imagekeep log",
    "imagekeep log -n 20 --since yesterday",
    "imagekeep log -f event=moved -f 'reference=busybox:*' -o jsonl",
)
@click.option("-n", "--number", type=click.IntRange(0), metavar="COUNT", help="Maximum number of changes.")
@moment_option("--since", "Leave out earlier changes.")
@moment_option("--until", "Leave out changes at this time or later.")
@filter_option("Keep changes with this reference (a pattern) or event; KEY!=VALUE leaves them out.", "-f")
@click.option("--follow", is_flag=True, help="Keep showing changes as they happen, newest last.")
@no_truncation
@click.option("--noheading", "no_heading", is_flag=True, help="Omit the heading.")
@row_format()
@click.pass_obj
def show_log(
    settings: Settings,
    number: int | None,
    since: int | None,
    until: int | None,
    filters: tuple[str, ...],
    follow: bool,
    output: str,
    no_trunc: bool,
    no_heading: bool,
) -> None:
    """Show the changes of all references, newest first.

    Each row shows the image id and target after the change, or before it if the reference vanished.
    """
    wanted = _parse_filters(filters)._replace(since=since, until=until)
    if follow:
        if output not in LINE_FORMATS:
            raise click.UsageError(f"--follow needs an output of lines: {', '.join(LINE_FORMATS)}")
        with settings.open_reader() as reader:
            first = FOLLOWED_FIRST if number is None and since is None else number
            _follow(reader, wanted, first, output, no_trunc=no_trunc, no_heading=no_heading)
        return
    with settings.open_reader() as reader:
        found = ask(reader, changes, wanted, 0, _limit(number))
    write_rows(_listing(found, no_trunc), output, heading=not no_heading)


def _follow(
    reader: Reader,
    wanted: ChangeFilter,
    count: int | None,
    output: str,
    *,
    no_trunc: bool,
    no_heading: bool,
) -> None:
    """Write changes as they happen, oldest first, until interrupted."""
    # Imported here because a command that ends needs less.
    from imagekeep.internals import data_version, incarnation

    seen, store, after = -1, incarnation(reader), 0
    limit = _limit(count)
    heading = not no_heading
    while True:
        version = data_version(reader)
        if version != seen:
            seen = version
            if (current := incarnation(reader)) != store:  # another store has taken the path: follow that one
                store, after = current, _newest(reader)
            found = ask(reader, changes, wanted, after, limit)[::-1]
            if limit == 0:
                after = _newest(reader)
            write_all(row_pieces(_listing(found, no_trunc), output, heading=heading))
            flush()
            heading, limit = False, NEVER
            after = found[-1].sequence if found else after
        time.sleep(INTERVAL)


def _limit(count: int | None) -> int:
    """Return the limit for SQLite, whose numbers have 64 bits."""
    return NEVER if count is None else min(count, 2**63 - 1)


def _newest(reader: Reader) -> int:
    """Return the sequence of the newest change, or 0."""
    found = ask(reader, changes, ChangeFilter(), 0, 1)
    return found[0].sequence if found else 0


def _parse_filters(texts: Sequence[str]) -> ChangeFilter:
    """Parse `reference` and `event` filters; values of one key are joined by OR, negated ones by AND."""
    chosen: dict[str, list[str]] = {}
    for text in texts:
        key, operator, value = text.partition("=")
        negated = key.endswith("!")
        key = key.removesuffix("!")
        if not operator or key not in _KEYS:
            raise InvalidArgumentError(
                f"unknown filter {printable(text)!r}: use reference=PATTERN or event=NAME"
            )
        field = "patterns" if key == "reference" else "events"
        chosen.setdefault(f"not_{field}" if negated else field, []).append(
            value if key == "reference" else require_event(value)
        )
    return ChangeFilter(**chosen)  # type: ignore[arg-type]


def _is_between(change: Change, since: int | None, until: int | None) -> bool:
    from imagekeep.times import to_microseconds

    at = to_microseconds(change.at)
    return (since is None or at >= since) and (until is None or at < until)


def _listing(found: Sequence[Change], no_trunc: bool, *, with_reference: bool = True) -> Listing:
    shown = as_text if no_trunc else as_id
    columns = [
        Column("time"),
        Column("event"),
        Column("image_id", shown),
        Column("target_digest", shown, "TARGET"),
        Column("pinned"),
        *([Column("reference")] if with_reference else []),
    ]
    rows = (_row(change)[: len(columns)] for change in found)
    return Listing(columns, rows, "changes", lambda: (_document(each, with_reference) for each in found))


def _row(change: Change) -> list[Any]:
    return [
        format_time(change.at),
        change.event,
        change.image_id,
        change.target_digest,
        change.pinned,
        change.reference,
    ]


def _document(change: Change, with_reference: bool) -> dict[str, Any]:
    return {
        "time": format_time(change.at),
        "event": change.event,
        **({"reference": change.reference} if with_reference else {}),
        "imageID": change.image_id,
        "targetDigest": change.target_digest,
        "pinned": change.pinned,
        "platform": change.platform,
    }
