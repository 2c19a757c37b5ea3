"""`imagekeep image inspect`, `exists` and `history`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, no_heading, no_truncation, output_format, row_format
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import format_time, human_size
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.output import write, write_line
from imagekeep.cli.rows import Column, Listing, as_id, as_text, write_rows
from imagekeep.cli.stored_names import complete_images, complete_references
from imagekeep.errors import ImageNotFoundError, InvalidReferenceError, printable
from imagekeep.reference import parse_docker_ref

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.database.queries import HistoryEntry
    from imagekeep.image import Image
    from imagekeep.reader import Reader


@command("imagekeep image inspect busybox:1.36", "imagekeep image inspect -o table busybox:1.36")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete_images)
@output_format("json", "yaml", "table")
@click.pass_obj
def inspect_images(settings: Settings, images: tuple[str, ...], output: str) -> None:
    """Show everything stored about images, including their configs.

    A config's environment and labels may hold secrets. Only this command, and queries of the table configs, print
    them.
    """
    with settings.open_reader() as reader:
        found = [_find(reader, name) for name in images]
    if output != "table":
        _write_document([_image_document(image) for image in found], output)
        return
    for number, image in enumerate(found):
        write("\n" if number else "")
        for line in _lines(image):
            write_line(line)


def _find(reader: Reader, name: str) -> Image:
    with suggesting(name, reader.references):
        return reader.find(name)


@command("imagekeep image exists busybox:1.36")
@click.argument("image", shell_complete=complete_images)
@click.pass_obj
def image_exists(settings: Settings, image: str) -> int:
    """Exit 0 if the image is in the store, 1 if not."""
    with settings.open_reader() as reader:
        try:
            reader.find(image)
        except ImageNotFoundError:
            return ExitCode.NOT_FOUND
    return ExitCode.OK


@command("imagekeep image history busybox:1.36")
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@no_truncation
@no_heading
@row_format()
@click.pass_obj
def image_history(settings: Settings, reference: str, output: str, no_trunc: bool, no_heading: bool) -> None:
    """Show what a reference pointed at, and when.

    The oldest change comes first. Each row shows the image id and target after the change, or before it if the
    reference vanished. Deleted references keep their history.
    """
    with settings.open_reader() as reader, suggesting(reference, reader.references):
        name, history = find_history(reader, reference)
    shown = as_text if no_trunc else as_id
    columns = [
        Column("time"),
        Column("event"),
        Column("image_id", shown),
        Column("target_digest", shown, "TARGET"),
        Column("pinned"),
    ]
    rows = map(_history_row, history)
    beside = {"reference": name}
    listing = Listing(columns, rows, "history", lambda: map(_history_document, history), beside)
    write_rows(listing, output, heading=not no_heading)


def find_history(reader: Reader, reference: str) -> tuple[str, list[HistoryEntry]]:
    """Return the history of a reference as spelt, else of its canonical form, with the name that matched.

    Raises ImageNotFoundError if neither was ever in the store.
    """
    spellings = [reference]
    with contextlib.suppress(InvalidReferenceError):  # a store may hold names that are not valid references
        spellings.append(str(parse_docker_ref(reference)))
    for name in spellings:
        if history := reader.history(name):
            return name, history
    raise ImageNotFoundError(f"no such image: {printable(reference)}")


def _write_document(document: Any, output: str) -> None:
    # Imported here because a table and an exit code need no JSON.
    from imagekeep.cli.documents import write_document

    write_document(document, output)


def _image_document(image: Image) -> dict[str, Any]:
    """Return an image as a document; `size` is in compressed bytes, `config` as containerd decodes it."""
    return {
        "id": image.id,
        "references": image.references,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "chainID": image.chain_id,
        "size": image.size,
        "pinned": image.pinned,
        "config": image.config,
    }


def _lines(image: Image) -> list[str]:
    """Return an image as `crictl inspecti -o table` shows it, without its config."""
    return [
        f"ID: {image.id}",
        *(f"Tag: {name}" for name in image.repo_tags),
        *(f"Digest: {name}" for name in image.repo_digests),
        f"Size: {human_size(image.size)}",
        f"Pinned: {str(image.pinned).lower()}",
    ]


def _history_document(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "time": format_time(entry.at),
        "event": entry.event,
        "imageID": entry.image_id,
        "targetDigest": entry.target_digest,
        "pinned": entry.pinned,
    }


def _history_row(entry: HistoryEntry) -> tuple[str, str, str, str | None, bool]:
    return format_time(entry.at), entry.event, entry.image_id, entry.target_digest, entry.pinned
