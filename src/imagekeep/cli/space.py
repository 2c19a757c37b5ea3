"""`imagekeep df` and `image size`: what images take up, and what removing them frees."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, no_heading, row_format
from imagekeep.cli.formats import counted
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.output import print_message
from imagekeep.cli.rows import Column, Listing, as_size, write_rows
from imagekeep.cli.stored_names import complete_images
from imagekeep.database.freeing import unknown_targets
from imagekeep.database.space import size_of_set, space_used
from imagekeep.reader import ask

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
from imagekeep.database.space import SpaceUsed

ONCE = "content and layers that several images share count once"


@command("imagekeep df", "imagekeep df --by registry", "imagekeep df -o json")
@click.option("--by", type=click.Choice(["registry", "repository"]), help="One row for each of these.")
@no_heading
@row_format()
@click.pass_obj
def show_usage(settings: Settings, by: str | None, no_heading: bool, output: str) -> None:
    """Show what images take up, and what could be freed.

    Reclaimable is what removing every image frees that no container uses and nothing pins. Content that several
    images share counts once; docker, podman and the CRI count it for each image. Bytes are unknown until the source
    has said what it has.
    """
    with settings.open_reader() as reader:
        found = ask(reader, space_used, time.time_ns(), by)
    columns = [
        *([Column(by)] if by else []),
        Column("images"),
        Column("in_use"),
        Column("pinned"),
        Column("reclaimable"),
        Column("content_bytes", as_size, "CONTENT"),
        Column("unpacked_bytes", as_size, "UNPACKED"),
        Column("reclaimable_content_bytes", as_size, "RECLAIMABLE CONTENT"),
        Column("reclaimable_unpacked_bytes", as_size, "RECLAIMABLE UNPACKED"),
    ]
    rows = [list(used) if by else list(used)[1:] for used in found]
    if by is None and output in ("json", "yaml"):
        _write_document(_document(found[0]), output)
        return
    write_rows(Listing(columns, rows, "groups"), output, heading=not no_heading)
    if output == "table" and found and found[0].content_bytes is None:
        print_message(_why_unknown(settings))
    elif output == "table":
        more = "; groups that share them count them each" if by else ""
        print_message(f"{ONCE}{more}")


def _why_unknown(settings: Settings) -> str:
    with settings.open_reader() as reader:
        unread = ask(reader, unknown_targets)
    if unread:
        return f"unknown: {counted(unread, 'reference')} could not be read yet, and may share content"
    return "unknown: the source has not said yet what it has (sync first)"


def _document(used: SpaceUsed) -> dict[str, Any]:
    document = used._asdict()
    del document["name"]
    return document


def _write_document(document: dict[str, Any], output: str) -> None:
    # Imported here because a table needs no JSON.
    from imagekeep.cli.documents import write_document

    write_document(document, output)


@command("imagekeep image size busybox:1.35", "imagekeep image size -o json busybox:1.36 busybox:stable")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete_images)
@no_heading
@row_format()
@click.pass_obj
def show_size(settings: Settings, images: tuple[str, ...], no_heading: bool, output: str) -> None:
    """Show what removing exactly these images would free.

    A reference stands for itself and for the digest and id that containerd keeps beside it; an image id for all
    references of its image. Kept is what these images have and others need too. Both are counted over every
    platform that is present.
    """
    with settings.open_reader() as reader, suggesting(images[0], reader.references):
        references, freed = ask(reader, size_of_set, images)
    document = {
        "references": references,
        "freed_content_bytes": freed.content.total,
        "kept_content_bytes": freed.content.kept,
        "freed_unpacked_bytes": freed.unpacked.total,
        "kept_unpacked_bytes": freed.unpacked.kept,
    }
    if output in ("json", "yaml"):
        _write_document(document, output)
        return
    sizes = {key: value for key, value in document.items() if key != "references"}
    columns = [Column(key, as_size, key.removesuffix("_bytes").replace("_", " ").upper()) for key in sizes]
    write_rows(Listing(columns, [list(sizes.values())]), output, heading=not no_heading)
    if output == "table" and freed.content.total is None:
        print_message(_why_unknown(settings))
    elif output == "table":
        print_message(f"{counted(len(references), 'reference')}; {ONCE}")
