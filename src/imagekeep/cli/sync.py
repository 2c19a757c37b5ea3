"""`imagekeep sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import counted, truncate
from imagekeep.cli.open_store import open_store, spelling
from imagekeep.cli.output import complain, write_line
from imagekeep.cli.progress import progress
from imagekeep.errors import printable
from imagekeep.sync import sync
from imagekeep.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.sync import SyncReport


@command(
    "imagekeep --source oci:busybox sync",
    "imagekeep --source oci:busybox sync --dry-run",
    "imagekeep --source oci:busybox sync busybox:1.36",
)
@click.argument("references", metavar="[REF]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Take the real path, and roll it back.")
@click.option("--verify", is_flag=True, help="Read every document again, also those of unchanged targets.")
@click.option("--platform", metavar="PLATFORM", help="As before the command.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_obj
def sync_store(
    settings: Settings,
    references: tuple[str, ...],
    dry_run: bool,
    verify: bool,
    platform: str | None,
    quiet: bool,
) -> int:
    """Make the store say what the source says.

    All references are looked at, those that vanished from the source too, or only the REFs. A reference that
    cannot be read is reported, and what was known of it stays; the others are synced, and the exit code is 125.
    """
    settings = settings._replace(platform=platform or settings.platform)
    with open_store(settings, dry_run=dry_run) as store, progress("syncing") as show:
        names = [spelling(store, name) for name in references] or None
        report = sync(store, names, verify=verify, dry_run=dry_run, progress=show)
    for line in [] if quiet else describe(report, dry_run=dry_run):
        write_line(line)
    return _complain(report, names or ())


def describe(report: SyncReport, *, dry_run: bool) -> Iterator[str]:
    """Give a line for each change, in the order of names, and one that counts them."""
    for name, transition in sorted(report.changed.items()):
        image_id = report.image_ids.get(name)
        yield f"{transition} {name} → {truncate(image_id)}" if image_id else f"{transition} {name}"
    counts = [f"{report.counts[each]} {each}" for each in Transition if report.counts[each]]
    failed = [f"{len(report.failures)} failed"] if report.failures else []
    number = counted(len(report.transitions) + len(report.failures), "reference")
    summary = ": ".join([number, ", ".join([*counts, *failed])]) if counts or failed else number
    yield f"dry run: would sync {summary}; nothing was changed" if dry_run else f"synced {summary}"


def _complain(report: SyncReport, asked: Sequence[str]) -> ExitCode:
    """Say what failed, and what was asked for and neither the source nor the store has; return the exit code."""
    for name, error in sorted(report.failures.items()):
        complain(f"{printable(name)}: {Exception.__str__(error)}")
    absent = sorted(name for name in asked if report.transitions.get(name) is Transition.ABSENT)
    for name in absent:
        complain(f"no such image: {printable(name)}")
    if report.failures:
        return ExitCode.FAILED
    return ExitCode.NOT_FOUND if absent else ExitCode.OK
