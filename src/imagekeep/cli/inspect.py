"""`imagekeep image inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import human_size
from imagekeep.cli.options import output_format
from imagekeep.cli.output import write, write_line
from imagekeep.cli.stored_names import complete_images

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.image import Image


@command("imagekeep image inspect busybox:1.36", "imagekeep image inspect -o table busybox:1.36")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete_images)
@output_format("json", "yaml", "table")
@click.pass_obj
def inspect_images(settings: Settings, images: tuple[str, ...], output: str) -> None:
    """Show all that is kept of images, configs included.

    A config holds the environment and the labels, where people put secrets: nothing else prints them, but a
    query of the table configs.
    """
    with settings.open_reader() as reader:
        found = [reader.find(name) for name in images]
    if output != "table":
        write_document([describe(image) for image in found], output)
        return
    for number, image in enumerate(found):
        write("\n" if number else "")
        for line in _lines(image):
            write_line(line)


def describe(image: Image) -> dict[str, Any]:
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
