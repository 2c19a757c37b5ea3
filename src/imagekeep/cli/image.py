"""`imagekeep image inspect` and `exists`."""

from __future__ import annotations

from contextlib import suppress
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
    from collections.abc import Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.image import Image
    from imagekeep.platform_content import TargetPlatform
    from imagekeep.reader import Reader


@command("imagekeep image inspect busybox:1.36", "imagekeep image inspect -o table busybox:1.36")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete_images)
@output_format("json", "yaml", "table")
@click.pass_obj
def inspect_images(settings: Settings, images: tuple[str, ...], output: str) -> None:
    """Show everything stored about images, including their configs.

    A config's environment and labels may hold secrets. Only this command, and queries of the table documents, print
    them.
    """
    with settings.open_reader() as reader:
        found = [_find(reader, name) for name in images]
        offered = [_platforms(reader, image) for image in found]
    if output != "table":
        documents = [_image_document(*each) for each in zip(found, offered, strict=True)]
        _write_document(documents, output)
        return
    for number, (image, platforms) in enumerate(zip(found, offered, strict=True)):
        write("\n" if number else "")
        for line in _lines(image, platforms):
            write_line(line)


def _find(reader: Reader, name: str) -> Image:
    with suggesting(name, reader.references):
        return reader.find(name)


def _platforms(reader: Reader, image: Image) -> list[TargetPlatform]:
    """Return the platforms of the targets of an image's references, each once."""
    found: dict[TargetPlatform, None] = {}
    for name in image.references:
        with suppress(ImageNotFoundError):  # deleted a moment ago
            found |= dict.fromkeys(reader.platforms(name))
    return list(found)


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


def _image_document(image: Image, platforms: Sequence[TargetPlatform]) -> dict[str, Any]:
    """Return an image as a document; `size` is in compressed bytes, `config` as containerd decodes it."""
    return {
        "id": image.id,
        "references": image.references,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "chainID": image.chain_id,
        "size": image.size,
        "pinned": image.pinned,
        "platforms": [_platform_document(each) for each in platforms],
        "config": image.config,
    }


def _platform_document(each: TargetPlatform) -> dict[str, Any]:
    """Return a platform of a target as a document; null is not known."""
    return {
        "platform": each.platform,
        "manifestDigest": each.manifest_digest,
        "imageID": each.image_id,
        "size": each.size,
        "state": each.state,
        "chosen": each.chosen,
        "absentBlobs": each.absent,
        "absentBytes": each.absent_bytes,
    }


def _lines(image: Image, platforms: Sequence[TargetPlatform]) -> list[str]:
    """Return an image as `crictl inspecti -o table` shows it, without its config, and its target's platforms."""
    return [
        f"ID: {image.id}",
        *(f"Tag: {name}" for name in image.repo_tags),
        *(f"Digest: {name}" for name in image.repo_digests),
        f"Size: {human_size(image.size)}",
        f"Pinned: {str(image.pinned).lower()}",
        *(f"Platform: {_platform_line(each)}" for each in platforms),
    ]


def _platform_line(each: TargetPlatform) -> str:
    """Return a platform with its content state, what is missing, and whether the store keeps its image."""
    parts = [each.state or "not known yet"]
    if each.absent:
        blobs = "1 blob" if each.absent == 1 else f"{each.absent} blobs"
        parts.append(f"{blobs} ({human_size(each.absent_bytes)}) absent")
    if each.chosen:
        parts.append("chosen")
    return f"{each.platform or 'unknown'}: {', '.join(parts)}"
