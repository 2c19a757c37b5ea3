"""`imagekeep images`, or `imagekeep image ls`: images as crictl lists them (cri-tools: cmd/crictl/image.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from imagekeep.cli.command import command, no_heading, no_truncation, output_format
from imagekeep.cli.formats import NONE, human_size, table, truncate, unsigned
from imagekeep.cli.output import write_all
from imagekeep.cli.stored_names import complete_references
from imagekeep.escaping import escape
from imagekeep.image import ImageSummary
from imagekeep.oci.user import split_user
from imagekeep.reference import parse_normalized, repo_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imagekeep.cli.settings import Settings
    from imagekeep.image import Image
    from imagekeep.reference import Reference

AnImage = TypeVar("AnImage", bound=ImageSummary)


@command(
    "imagekeep images",
    "imagekeep images busybox:1.36",
    "imagekeep images --digests --pinned --no-trunc",
    "imagekeep images -o json",
)
@click.argument("name", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_references)
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option("--pinned", is_flag=True, help="Show which images are pinned.")
@click.option("-q", "--quiet", is_flag=True, help="Show only full ids.")
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

    The table has one row per tag, like `crictl images`; JSON and YAML have the same fields as crictl's.
    """
    wanted = None if name is None else parse_normalized(name)
    columns = Columns(digests=digests, pinned=pinned, truncated=not no_trunc)
    with settings.open_reader() as reader:
        if quiet:
            write_all(f"{escape(image.id)}\n" for image in choose(reader.summaries(), wanted))
        elif output == "table":
            heading = [] if no_heading else [columns.heading()]
            images = choose(reader.summaries(), wanted)
            write_all(table([*heading, *(row for image in images for row in columns.rows(image, wanted))]))
        else:
            # Imported here because a table needs no JSON.
            from imagekeep.cli.documents import write_document

            messages = [_document(image) for image in choose(reader.list(), wanted)]
            write_document({"images": messages}, output)


def choose(images: Iterable[AnImage], wanted: Reference | None) -> list[AnImage]:
    """Return the images, or those that have the wanted name, in crictl's order."""
    chosen = images if wanted is None else [image for image in images if _names(image, wanted)]
    return sorted(chosen, key=_sort_key)


class Columns(NamedTuple):
    """The optional columns of a table of images, and whether ids and digests are truncated."""

    digests: bool
    pinned: bool
    truncated: bool

    def heading(self) -> list[str]:
        """Return the heading."""
        return self._row("IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED")

    def rows(self, image: ImageSummary, wanted: Reference | None = None) -> Iterator[list[str]]:
        """Yield a row for each name of an image, or for each that matches `wanted`."""
        printable = truncate if self.truncated else str
        digests = image.repo_digests if self.digests else ()
        digest = printable(digests[0].partition("@")[2]) if digests else NONE
        size, pinned = human_size(image.size), str(image.pinned).lower()
        for repository, tag in _names(image, wanted):
            yield self._row(repository, tag, digest, printable(image.id), size, pinned)

    def _row(self, name: str, tag: str, digest: str, image_id: str, size: str, pinned: str) -> list[str]:
        digests, pins = [digest] if self.digests else [], [pinned] if self.pinned else []
        return [name, tag, *digests, image_id, size, *pins]


def _sort_key(image: ImageSummary) -> tuple[int, str]:
    """Return the sort key: the first tag, else the first digest, else the id.

    crictl compares two images by what both have, which is not a total order; here images with a tag come first,
    then those with a digest.
    """
    for name in image.references:  # the first tag comes early; the rest need not be parsed
        if tags := repo_tags([name]):
            return 0, tags[0]
    if digests := image.repo_digests:
        return 1, digests[0]
    return 2, image.id


def _names(image: ImageSummary, wanted: Reference | None = None) -> list[tuple[str, str]]:
    """Return the repository and tag of each row of an image, with NONE for what it lacks.

    `wanted` selects the rows with its repository and tag, or all rows if the image has its digest.
    """
    tagged = [(repository, tag) for repository, _, tag in (name.rpartition(":") for name in image.repo_tags)]
    if wanted is None and tagged:
        return tagged
    digests = image.repo_digests
    if wanted is None:
        return [(digests[0].partition("@")[0] if digests else NONE, NONE)]
    if wanted.digest:
        return _names(image) if f"{wanted.name}@{wanted.digest}" in digests else []
    chosen = [(name, tag) for name, tag in tagged if name == wanted.name and wanted.tag in ("", tag)]
    by_digest = not wanted.tag and any(name.startswith(f"{wanted.name}@") for name in digests)
    return chosen or ([(wanted.name, NONE)] if by_digest else [])


def _document(image: Image) -> dict[str, Any]:
    """Return runtime.v1.Image as protobuf's JSON with every field; 64-bit numbers are strings."""
    uid, username = split_user(image.config["config"].get("User", ""))
    return {
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "size": str(unsigned(image.size)),
        "uid": None if uid is None else {"value": str(uid)},
        "username": username,
        "spec": None,
        "pinned": image.pinned,
    }
