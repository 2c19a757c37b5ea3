"""`imagekeep gc plan`: what a kubelet would remove next."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from imagekeep.cli.command import command, no_heading, no_truncation, row_format
from imagekeep.cli.formats import format_time, human_size
from imagekeep.cli.output import print_message
from imagekeep.cli.rows import Column, Listing, as_id, as_size, as_text, write_rows
from imagekeep.cli.times import duration_option, size_option
from imagekeep.database.space import Disk, plan_of_kubelet, plan_to_free
from imagekeep.errors import FailedPreconditionError, printable
from imagekeep.questions.kubelet import MIN_AGE_DEFAULT, Policy, usage_percent
from imagekeep.reader import ask
from imagekeep.reader_internals import image_filesystem
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.database.space import Step
    from imagekeep.reader import Reader


class Plan(NamedTuple):
    """Steps, the target that they should meet, and whether they do; without a target there is nothing to do."""

    steps: Sequence[Step]
    target: int | None
    met: bool
    disk: Disk | None = None


@command("imagekeep gc plan --free 2GB", "imagekeep gc plan --free 1kB --min-age 0 -o json")
@size_option("--free", "Free this much content.")
@click.option(
    "--high", type=click.IntRange(0, 100), metavar="PERCENT", help="Start at this usage; 85 by default."
)
@click.option(
    "--low", type=click.IntRange(0, 100), metavar="PERCENT", help="Stop at this usage; 80 by default."
)
@duration_option("--min-age", "Spare images seen for less than this; 2m by default.")
@duration_option("--max-age", "Remove images unused for longer than this; off by default.")
@no_truncation
@no_heading
@row_format()
@click.pass_obj
def show_plan(
    settings: Settings,
    free: int | None,
    high: int | None,
    low: int | None,
    min_age: int | None,
    max_age: int | None,
    no_trunc: bool,
    no_heading: bool,
    output: str,
) -> None:
    """Show what a kubelet would remove next; remove nothing.

    Images that a container uses or a reference pins stay. The least recently used go first, those never used before
    all, then those seen first. With --high and --low it stops when the sizes of the images add up to the target, as
    a kubelet does, although shared layers are freed only once; with --free, when enough is really freed.
    """
    if free is not None and (high is not None or low is not None):
        raise click.UsageError("--free is a target of its own; omit --high and --low")
    policy = _policy(high, low, min_age, max_age)
    with settings.open_reader() as reader:
        plan = _plan(reader, policy, free)
    write_rows(_listing(plan, no_trunc=no_trunc), output, heading=not no_heading)
    if output == "table":
        print_message(_summary(plan))


def _policy(high: int | None, low: int | None, min_age: int | None, max_age: int | None) -> Policy:
    """Return the policy; a low threshold that is not given is at most the high one."""
    high = 85 if high is None else high
    low = min(80, high) if low is None else low
    return Policy(high, low, MIN_AGE_DEFAULT if min_age is None else min_age, max_age or 0)


def _plan(reader: Reader, policy: Policy, free: int | None) -> Plan:
    now = time.time_ns()
    if free is not None:
        steps = ask(reader, plan_to_free, policy, now, free)
        freed = [step.frees_content_bytes for step in steps]
        return Plan(steps, free, None not in freed and sum(size or 0 for size in freed) >= free)
    disk = _disk(reader)
    planned = ask(reader, plan_of_kubelet, policy, now, disk)
    chosen = sum(step.image.size for step in planned.steps if step.reason == "space")
    return Plan(planned.steps, planned.target, planned.target is None or chosen >= planned.target, disk)


def _disk(reader: Reader) -> Disk:
    """Return the filesystem of the source's images, if it is one of this machine."""
    usage = image_filesystem(reader)
    if usage is None:
        raise FailedPreconditionError("the source has not said where its images are (use --free)")
    try:
        stat = os.statvfs(usage.mountpoint)
    except OSError as error:
        reason = f"{printable(usage.mountpoint)}: {error.strerror} (use --free)"
        raise FailedPreconditionError(reason) from error
    return Disk(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)


def _listing(plan: Plan, *, no_trunc: bool) -> Listing:
    shown = as_text if no_trunc else as_id
    columns = [
        Column("id", shown, "IMAGE ID"),
        Column("size", as_size),
        Column("frees_content_bytes", as_size, "FREES"),
        Column("frees_unpacked_bytes", as_size, "FREES UNPACKED"),
        Column("last_used"),
        Column("first_seen"),
        Column("reason"),
        Column("reference"),
    ]
    beside: dict[str, Any] = {
        "target_bytes": plan.target,
        "met": plan.met,
        "freed_content_bytes": _total(plan),
    }
    if plan.disk:
        used = usage_percent(plan.disk.capacity, min(plan.disk.available, plan.disk.capacity))
        beside |= {
            "capacity_bytes": plan.disk.capacity,
            "available_bytes": plan.disk.available,
            "usage_percent": used,
        }
    rows = map(_row, plan.steps)
    return Listing(columns, rows, "steps", lambda: map(_document, plan.steps), beside)


def _row(step: Step) -> list[Any]:
    document = _document(step)
    references = document.pop("references")
    return [*document.values(), references[0]]


def _document(step: Step) -> dict[str, Any]:
    return {
        "id": step.image.image_id,
        "size": step.image.size,
        "frees_content_bytes": step.frees_content_bytes,
        "frees_unpacked_bytes": step.frees_unpacked_bytes,
        "last_used": _time(step.image.last_used),
        "first_seen": _time(step.image.first_detected),
        "reason": step.reason,
        "references": step.names,
    }


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else format_time(from_microseconds(nanoseconds // 1000))


def _total(plan: Plan) -> int | None:
    freed = [step.frees_content_bytes for step in plan.steps]
    return None if None in freed else sum(size or 0 for size in freed)


def _summary(plan: Plan) -> str:
    total = _total(plan)
    frees = "an unknown amount" if total is None else human_size(total)
    if plan.target is None:
        return f"below the high threshold; frees {frees}"
    reached = "" if plan.met else ": not enough may go"
    return f"frees {frees} of {human_size(max(plan.target, 0))}{reached} (shared content counts once)"
