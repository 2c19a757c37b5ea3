"""`imagekeep images`, which is `imagekeep image ls`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from imagekeep.cli import crictl
from imagekeep.cli.command import command
from imagekeep.cli.formats import table
from imagekeep.cli.options import no_heading, no_truncation, output_format
from imagekeep.cli.output import write_all
from imagekeep.cli.stored_names import complete_references
from imagekeep.escaping import escape
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
@click.argument("name", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_references)
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
            write_all(f"{escape(image.id)}\n" for image in choose(reader.summaries(), wanted))
        elif output == "table":
            heading = [] if no_heading else [columns.heading()]
            images = choose(reader.summaries(), wanted)
            write_all(table([*heading, *(row for image in images for row in columns.rows(image, wanted))]))
        else:
            from imagekeep.cli.documents import write_document  # a table needs no JSON

            messages = [crictl.message(image) for image in choose(reader.list(), wanted)]
            write_document({"images": messages}, output)


def choose(images: Iterable[Kept], wanted: Reference | None) -> list[Kept]:
    """Return the images in crictl's order; where a name is wanted, those that have it."""
    chosen = images if wanted is None else [image for image in images if crictl.names(image, wanted)]
    return sorted(chosen, key=crictl.sort_key)
