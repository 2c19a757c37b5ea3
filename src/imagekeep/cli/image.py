"""`imagekeep image inspect` and `exists`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, output_format
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.formats import human_size
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.output import write, write_line
from imagekeep.cli.stored_names import complete_images
from imagekeep.errors import ImageNotFoundError

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
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
