"""`imagekeep diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command, no_heading, row_format
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import NONE, table, truncate
from imagekeep.cli.open_store import open_store
from imagekeep.cli.output import write_all
from imagekeep.cli.rows import Column, Listing, as_id, write_rows
from imagekeep.cli.times import moment_option
from imagekeep.diff import DifferenceKind, find_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.cri.stale import Stale
    from imagekeep.diff import Difference
    from imagekeep.store import Store

_HEADING = ("REFERENCE", "DIFFERENCE", "STORE", "SOURCE")
_MEANINGS = {
    "stuck": "image without a record",
    "lost": "missing from the CRI",
    "stays": "name without a record",
}
_COLUMNS = tuple(map(Column, ("reference", "difference", "store_id", "source_id", "detail")))
_CRI_HEADING = ("CONTAINERD'S CRI", "DIFFERENCE", "IMAGE ID", "MEANING")


@command(
    "imagekeep --source oci:busybox diff",
    "imagekeep --source oci:busybox diff -o json",
    "imagekeep --source containerd diff --cri",
    "imagekeep diff --since now",
)
@click.option("--cri", is_flag=True, help="Also compare containerd's CRI with containerd's records.")
@click.option("--incomplete", is_flag=True, help="Count unreadable references as differences.")
@moment_option("--since", "Compare the store with its own past instead.")
@row_format()
@no_heading
@click.pass_obj
def show_differences(
    settings: Settings, cri: bool, incomplete: bool, since: int | None, output: str, no_heading: bool
) -> int:
    """Show differences between the store and the source.

    Changes neither. Each difference is checked again after a moment, because the store may be about to catch up.

    --cri also compares containerd's CRI, which keeps its images in memory, with containerd's records: an image that
    only the CRI has is stuck, a name missing from the CRI is lost, and a name that only the CRI has stays.

    The exit code is 0 if nothing differs and 1 otherwise. References that cannot be read at the source are shown,
    but count as differences only with --incomplete.

    --since shows what has changed in the store since a time, whatever happened in between, and asks no source.
    """
    if since is not None:
        if cri or incomplete:
            raise click.UsageError(
                "--since compares the store with its own past; omit --cri and --incomplete"
            )
        return _show_past(settings, since, output, no_heading=no_heading)
    with open_store(settings, dry_run=True) as store:
        found = find_differences(store)
        stale = _find_stale(store) if cri else []
    if output == "table":
        _write_table(_HEADING, map(_row, found), no_heading)
        _write_table(_CRI_HEADING, map(_stale_row, stale), no_heading)
    else:
        write_rows(_listing(found, stale, cri=cri), output, heading=not no_heading)
    counted = [each for each in found if incomplete or each.kind is not DifferenceKind.INCOMPLETE]
    return ExitCode.DIFFERENT if counted or stale else ExitCode.OK


def _show_past(settings: Settings, since: int, output: str, *, no_heading: bool) -> int:
    """Show the differences between the store at a time and now."""
    # Imported here because comparing with a source needs no history.
    from imagekeep.database.history import differences_since
    from imagekeep.reader import ask, asked_platform

    with settings.open_reader() as reader:
        found = ask(reader, differences_since, since, asked_platform(reader))
    columns = [
        Column("reference"),
        Column("difference"),
        Column("before_id", as_id, "THEN"),
        Column("now_id", as_id, "NOW"),
    ]
    documents = [
        {"reference": each.reference, "difference": each.kind, "beforeId": each.before, "nowId": each.now}
        for each in found
    ]
    if found or output != "table":
        listing = Listing(columns, found, "differences", lambda: documents)
        write_rows(listing, output, heading=not no_heading)
    return ExitCode.DIFFERENT if found else ExitCode.OK


def _find_stale(store: Store) -> list[Stale]:
    # Imported here because gRPC is an extra that only containerd needs.
    from imagekeep.cri.stale import find_stale

    return find_stale(store)


def _write_table(heading: Sequence[str], rows: Iterable[Sequence[str]], no_heading: bool) -> None:
    """Write rows under their heading; write nothing without rows."""
    if listed := list(rows):
        write_all(table([*([] if no_heading else [heading]), *listed]))


def _stale_row(stale: Stale) -> tuple[str, str, str, str]:
    return stale.name, stale.fault, truncate(stale.image_id), _MEANINGS[stale.fault]


def _stale_document(stale: Stale) -> dict[str, str]:
    return {"name": stale.name, "difference": stale.fault.value, "imageId": stale.image_id}


def _listing(found: list[Difference], stale: list[Stale], *, cri: bool) -> Listing:
    """Return both kinds of differences: in two lists of a document, in one list of lines."""
    differences, faults = list(map(_document, found)), list(map(_stale_document, stale))
    rows = [
        *((d.reference, d.kind.value, d.store_id, d.source_id, d.detail or None) for d in found),
        *((s.name, s.fault.value, None, None, _MEANINGS[s.fault]) for s in stale),
    ]
    beside = {"cri": faults} if cri else {}
    return Listing(_COLUMNS, rows, "differences", lambda: differences, beside)


def _row(difference: Difference) -> tuple[str, str, str, str]:
    in_store, at_source = (truncate(i) if i else NONE for i in (difference.store_id, difference.source_id))
    return difference.reference, difference.kind, in_store, difference.detail or at_source


def _document(difference: Difference) -> dict[str, str | None]:
    return {
        "reference": difference.reference,
        "difference": difference.kind.value,
        "storeId": difference.store_id,
        "sourceId": difference.source_id,
        "detail": difference.detail or None,
    }
