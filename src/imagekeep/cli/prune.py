"""`imagekeep image prune`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command, filter_option
from imagekeep.cli.exit_codes import ExitCode, exit_code
from imagekeep.cli.formats import counted, human_size, table, truncate
from imagekeep.cli.image_actions import print_result, require_changeable_listing
from imagekeep.cli.open_store import open_store
from imagekeep.cli.output import flush, print_error, print_message, write_all
from imagekeep.database.space import plan_to_prune
from imagekeep.errors import ImagePinnedError
from imagekeep.image_actions import Actions
from imagekeep.questions.filters import parse_filters
from imagekeep.reader import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.database.space import Step
    from imagekeep.questions.filters import Filter
    from imagekeep.store import Store


@command(
    "imagekeep --source containerd image prune --dry-run",
    "imagekeep --source containerd image prune --filter unused-for=168h --force",
)
@filter_option("Prune only images that match, as in `images`.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune_images(settings: Settings, filters: tuple[str, ...], dry_run: bool, force: bool) -> int:
    """Remove the images that nothing uses or pins from the source.

    Shows what would go and what that frees, then asks; without a terminal it needs --force. Images that a container
    uses or a reference pins stay.
    """
    wanted = parse_filters(filters)
    with open_store(settings, before_creating=require_changeable_listing, example="containerd") as store:
        Actions.begin(store)
        steps = ask(store, plan_to_prune, wanted, time.time_ns())
        _show(steps)
        if dry_run or not steps:
            return ExitCode.OK
        if not force and not _confirmed(steps):
            return ExitCode.REFUSED
        return _prune(store, steps, wanted)


def _prune(store: Store, shown: Sequence[Step], wanted: Sequence[Filter]) -> ExitCode:
    """Remove what was shown and can still go: the source may have changed while the answer was awaited."""
    code = ExitCode.OK
    actions = Actions.begin(store, print_result)
    ids = {step.image.image_id for step in shown}
    for step in ask(store, plan_to_prune, wanted, time.time_ns()):
        if step.image.image_id not in ids:
            continue
        try:
            actions.prune(step.image.image_id, step.names)
        except ImagePinnedError as error:
            print_error(str(error))
            code = exit_code(error)
    return code


def _show(steps: Sequence[Step]) -> None:
    if not steps:
        print_message("nothing to prune")
        return
    heading = ["IMAGE ID", "FREES", "REFERENCES"]
    rows = [
        [truncate(step.image.image_id), _size(step.frees_content_bytes), " ".join(step.names)]
        for step in steps
    ]
    write_all(table([heading, *rows]))
    flush()
    total = [step.frees_content_bytes for step in steps]
    frees = None if None in total else sum(size or 0 for size in total)
    print_message(f"{counted(len(steps), 'image')}; frees {_size(frees)} (shared content counts once)")


def _size(size: int | None) -> str:
    return "unknown" if size is None else human_size(size)


def _confirmed(steps: Sequence[Step]) -> bool:
    """Ask on a terminal; without one, say what to do instead."""
    if sys.stdin is None or not sys.stdin.isatty():
        print_error("not a terminal, so nothing was removed (use --force)")
        return False
    return click.confirm(f"Remove {counted(len(steps), 'image')}?", err=True)
