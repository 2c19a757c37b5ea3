"""`imagekeep sync`."""

from __future__ import annotations

import contextlib
import functools
import shlex
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import counted, truncate
from imagekeep.cli.near_names import advice_for
from imagekeep.cli.open_store import open_store, require_listing, spelling
from imagekeep.cli.output import print_error, progress, write_line
from imagekeep.cli.stored_names import complete_references
from imagekeep.database.queries import no_such_image
from imagekeep.errors import FailedPreconditionError, ImageNotFoundError, printable
from imagekeep.internals import droppable_platforms
from imagekeep.platform import ALL_PLATFORMS
from imagekeep.reference import parse_docker_ref
from imagekeep.sync import sync
from imagekeep.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.sources.protocol import Source
    from imagekeep.store import Store
    from imagekeep.sync import SyncReport


SHOWN = 20
"""Changes listed by default."""


@command(
    "imagekeep --source oci:busybox sync",
    "imagekeep --source oci:busybox sync --dry-run",
    "imagekeep --source oci:busybox sync busybox:1.36",
)
@click.argument("references", metavar="[REF]...", nargs=-1, shell_complete=complete_references)
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--verify", is_flag=True, help="Reread every document.")
@click.option("--replace-source", is_flag=True, help="Replace the source that the store follows.")
@click.option("--replace-platforms", is_flag=True, help="Drop the platforms that --platform does not name.")
@click.option("-v", "--verbose", is_flag=True, help=f"List every change, not only the first {SHOWN}.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the summary.")
@click.pass_obj
def sync_store(
    settings: Settings,
    references: tuple[str, ...],
    dry_run: bool,
    verify: bool,
    replace_source: bool,
    replace_platforms: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Update the store from the source.

    Updates all references, or only the given ones, and deletes those that the source no longer has. The store
    remembers its source: syncing all references from another one is refused (exit code 4) without
    --replace-source, and syncing given ones deletes none. References that cannot be read are reported and keep
    their last state (exit code 5).

    The store remembers its platforms too. Those that --platform names are added; if it leaves any out, the sync is
    refused without --replace-platforms, which drops their images from the store.
    """
    probe = functools.partial(_require_any, references) if references else require_listing
    with (
        open_store(settings, dry_run=dry_run, before_creating=probe) as store,
        progress("syncing") as show,
    ):
        names = [spelling(store, name) for name in references] or None
        if names is None and not (replace_platforms or dry_run):
            _require_all_platforms(store)
        report = sync(
            store,
            names,
            verify=verify,
            dry_run=dry_run,
            replace_source=replace_source,
            replace_platforms=replace_platforms or (dry_run and names is None),
            progress=show,
        )
        known = store.references() if names else []
    shown = 0 if quiet else None if verbose else SHOWN
    for line in describe(report, shown, dry_run=dry_run):
        write_line(line)
    return _print_failures(report, names or (), known)


def _require_all_platforms(store: Store) -> None:
    """Raise FailedPreconditionError, saying what would be dropped, if the store keeps other platforms."""
    others = droppable_platforms(store)
    if others:
        kept = ", ".join(_kept(name, number) for name, number in others.items())
        needed = [ALL_PLATFORMS] if ALL_PLATFORMS in others else others
        flags = " ".join(f"--platform {shlex.quote(printable(name))}" for name in needed)
        raise FailedPreconditionError(
            f"store {printable(store.path)}: also keeps {printable(kept)} (add {flags}, or drop the others "
            "with --replace-platforms)"
        )


def _kept(platform: str, references: int) -> str:
    if platform == ALL_PLATFORMS:
        return "every other platform"
    return f"{platform} ({counted(references, 'reference')})"


def _require_any(names: Sequence[str], source: Source) -> None:
    """Raise ImageNotFoundError if the source has none of these names, and as its `get` does."""
    for name in names:
        for spelt in dict.fromkeys((name, str(parse_docker_ref(name)))):
            with contextlib.suppress(ImageNotFoundError):
                source.get(spelt)
                return
    raise no_such_image(", ".join(names))


def describe(report: SyncReport, shown: int | None = None, *, dry_run: bool) -> Iterator[str]:
    """Yield a line for each of the first `shown` changes in order of names (None: all), then a summary."""
    changed = sorted(report.changed.items())
    for name, transition in changed[:shown]:
        image_id = report.image_ids.get(name)
        yield f"{transition} {name} → {truncate(image_id)}" if image_id else f"{transition} {name}"
    if shown and len(changed) > shown:
        yield f"… and {len(changed) - shown} more changes (-v lists all)"
    for platform, references in report.dropped.items():
        yield f"dropped {_kept(platform, references)}"
    counts = [f"{report.counts[each]} {each}" for each in Transition if report.counts[each]]
    failed = [f"{len(report.failures)} unreadable"] if report.failures else []
    number = counted(len(report.transitions) + len(report.failures), "reference")
    summary = ": ".join([number, ", ".join([*counts, *failed])]) if counts or failed else number
    yield f"dry run: would sync {summary}; nothing was changed" if dry_run else f"synced {summary}"


def _print_failures(report: SyncReport, requested: Sequence[str], known: Sequence[str]) -> ExitCode:
    """Report the failures and the requested references that do not exist; return the exit code.

    `known` are the references of the store, for suggestions.
    """
    for name, error in sorted(report.failures.items()):
        print_error(f"{printable(name)}: {Exception.__str__(error)}")
    absent = sorted(name for name in requested if report.transitions.get(name) is Transition.ABSENT)
    for name in absent:
        advice = advice_for(name, known)
        print_error(f"no such image: {printable(name)}" + (f" ({advice})" if advice else ""))
    if report.failures:
        return ExitCode.INCOMPLETE
    return ExitCode.NOT_FOUND if absent else ExitCode.OK
