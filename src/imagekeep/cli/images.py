"""`imagekeep images`, which is `imagekeep image ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from imagekeep.cli import crictl
from imagekeep.cli.command import command
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import NONE, table
from imagekeep.cli.options import no_heading, no_truncation, output_format
from imagekeep.cli.output import write
from imagekeep.image import ImageSummary
from imagekeep.reference import parse_normalized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.cli.settings import Settings
    from imagekeep.reference import Reference

Kept = TypeVar("Kept", bound=ImageSummary)


@command(
    "imagekeep images",
    "imagekeep images busybox:1.36",
    "imagekeep images --digests --pinned --no-trunc",
    "imagekeep images -o json",
)
@click.argument("name", metavar="[REPO[:TAG]]", required=False)
@click.option("--digests", is_flag=True, help="Show a column of digests.")
@click.option("--pinned", is_flag=True, help="Show a column that tells which images are pinned.")
@click.option("-q", "--quiet", is_flag=True, help="Show only ids, in full.")
@no_truncation
@no_heading
@output_format("table", "json", "yaml")
@click.pass_obj
def list_images(
    settings: Settings,
    name: str | None,
    output: str,
    digests: bool,
    pinned: bool,
    quiet: bool,
    no_trunc: bool,
    no_heading: bool,
) -> None:
    """List images.

    There is one row a tag, as `crictl images` shows them, and JSON and YAML have its fields.
    """
    wanted = None if name is None else parse_normalized(name)
    columns = crictl.Columns(digests=digests, pinned=pinned, truncated=not no_trunc)
    with settings.open_reader() as reader:
        if quiet:
            write("".join(f"{image.id}\n" for image, _ in choose(reader.summaries(), wanted)))
        elif output == "table":
            heading = [] if no_heading else [columns.heading()]
            write(table([*heading, *columns.rows(choose(reader.summaries(), wanted))]))
        else:
            messages = [crictl.message(image) for image, _ in choose(reader.list(), wanted)]
            write_document({"images": messages}, output)


def choose(images: Iterable[Kept], wanted: Reference | None) -> list[tuple[Kept, list[crictl.Name]]]:
    """Return the images in crictl's order, each with its names; where a name is wanted, those that have it."""
    named = [(image, _wanted_names(image, wanted)) for image in sorted(images, key=crictl.sort_key)]
    return [(image, names) for image, names in named if names]


def _wanted_names(image: ImageSummary, wanted: Reference | None) -> list[crictl.Name]:
    """Return the repositories and tags of an image, or those of them that are wanted."""
    names = crictl.names(image)
    if wanted is None:
        return names
    if wanted.digest:
        return names if f"{wanted.name}@{wanted.digest}" in image.repo_digests else []
    chosen = [(name, tag) for name, tag in names if name == wanted.name and wanted.tag in ("", tag)]
    by_digest = not wanted.tag and any(name.startswith(f"{wanted.name}@") for name in image.repo_digests)
    return chosen or ([(wanted.name, NONE)] if by_digest else [])
