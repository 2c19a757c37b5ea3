"""`imagekeep diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.documents import write_document
from imagekeep.cli.exits import ExitCode
from imagekeep.cli.formats import NONE, table, truncate
from imagekeep.cli.options import no_heading, output_format
from imagekeep.cli.output import write
from imagekeep.cli.sourced import opening
from imagekeep.diff import find_differences

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.diff import Difference

_HEADING = ("REFERENCE", "DIFFERENCE", "STORE", "SOURCE")


@command("imagekeep --source oci:busybox diff", "imagekeep --source oci:busybox diff -o json")
@output_format("table", "json", "yaml")
@no_heading
@click.pass_obj
def show_differences(settings: Settings, output: str, no_heading: bool) -> int:
    """Show where the store and the source differ, without changing either.

    The exit code is 0 where they say the same, and 1 where they differ.
    """
    with opening(settings, dry_run=True) as store:
        found = find_differences(store)
    if output == "table":
        heading = [] if no_heading or not found else [_HEADING]
        write(table([*heading, *map(_row, found)]))
    else:
        write_document({"differences": list(map(_document, found))}, output)
    return ExitCode.DIFFERENT if found else ExitCode.OK


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
