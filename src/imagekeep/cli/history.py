"""`imagekeep image history`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import NONE, format_time, table, truncate
from imagekeep.cli.options import no_heading, no_truncation, output_format
from imagekeep.cli.output import write_all
from imagekeep.cli.stored_names import complete_references
from imagekeep.errors import ImageNotFoundError, InvalidReferenceError, printable
from imagekeep.reference import parse_docker_ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.cli.settings import Settings
    from imagekeep.database.queries import HistoryEntry
    from imagekeep.reader import Reader

HEADING = ["TIME", "EVENT", "IMAGE ID", "TARGET", "PINNED"]


@command("imagekeep image history busybox:1.36")
@click.argument("reference", shell_complete=complete_references)
@no_truncation
@no_heading
@output_format("table", "json", "yaml")
@click.pass_obj
def image_history(settings: Settings, reference: str, output: str, no_trunc: bool, no_heading: bool) -> None:
    """Show what a reference pointed at, and when.

    The oldest change is first. The image id and the target are those from then on; of a reference that
    vanished, those until then. References that are gone have a history too.
    """
    with settings.open_reader() as reader:
        name, history = find_history(reader, reference)
    if output != "table":
        write_document({"reference": name, "history": [describe(entry) for entry in history]}, output)
        return
    cut = str if no_trunc else truncate
    heading = [] if no_heading else [HEADING]
    write_all(table([*heading, *(_row(entry, cut) for entry in history)]))


def find_history(reader: Reader, reference: str) -> tuple[str, list[HistoryEntry]]:
    """Return the history of a reference spelt exactly so, else of its normal form, under the name it has there.

    Raises ImageNotFoundError where neither was ever here.
    """
    spellings = [reference]
    with contextlib.suppress(InvalidReferenceError):  # a store keeps names that are no references too
        spellings.append(str(parse_docker_ref(reference)))
    for name in spellings:
        if history := reader.history(name):
            return name, history
    raise ImageNotFoundError(f"no such image: {printable(reference)}")


def describe(entry: HistoryEntry) -> dict[str, Any]:
    """Return one change as a document."""
    return {
        "time": format_time(entry.at),
        "event": entry.event,
        "imageID": entry.image_id,
        "targetDigest": entry.target_digest,
        "pinned": entry.pinned,
    }


def _row(entry: HistoryEntry, cut: Callable[[str], str]) -> list[str]:
    target = cut(entry.target_digest) if entry.target_digest else NONE
    return [format_time(entry.at), entry.event, cut(entry.image_id), target, str(entry.pinned).lower()]
