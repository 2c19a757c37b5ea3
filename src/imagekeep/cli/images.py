"""`imagekeep images`, or `imagekeep image ls`: images as crictl lists them (cri-tools: cmd/crictl/image.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from imagekeep.cli.command import command, no_heading, no_truncation, row_format
from imagekeep.cli.formats import unsigned
from imagekeep.cli.output import write_all
from imagekeep.cli.rows import Column, Listing, as_id, as_size, as_text, write_rows
from imagekeep.cli.stored_names import complete_references
from imagekeep.cli.times import moment_option
from imagekeep.escaping import escape
from imagekeep.image import Image
from imagekeep.oci.user import split_user
from imagekeep.reference import parse_normalized, repo_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.image import ImageSummary
    from imagekeep.questions.listed import ListedImage
    from imagekeep.reader import Reader
    from imagekeep.reference import Reference

    Shown = ImageSummary | ListedImage
    Names = list[tuple[str | None, str | None]]


AnImage = TypeVar("AnImage", "ImageSummary", "Image", "ListedImage")
Cell = TypeVar("Cell")

_DOCUMENTS = ("json", "jsonl", "yaml")
"""The formats with crictl's fields, which need the configs."""


@command(
    "imagekeep images",
    "imagekeep images busybox:1.36",
    "imagekeep images --digests --pinned --no-trunc",
    "imagekeep images -o json",
    "imagekeep images --as-of now",
)
@click.argument("name", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_references)
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option("--pinned", is_flag=True, help="Show which images are pinned.")
@click.option("-q", "--quiet", is_flag=True, help="Show only full ids.")
@moment_option("--as-of", "Show the images of a past time, from the history.")
@no_truncation
@no_heading
@row_format()
@click.pass_obj
def list_images(
    settings: Settings,
    name: str | None,
    as_of: int | None,
    output: str,
    digests: bool,
    pinned: bool,
    quiet: bool,
    no_trunc: bool,
    no_heading: bool,
) -> None:
    """List images.

    The table, csv and tsv have one row per tag, like `crictl images`. In json, jsonl and yaml an image has the same
    fields as crictl's.
    """
    wanted = None if name is None else parse_normalized(name)
    images: Sequence[Shown]
    with settings.open_reader() as reader:
        if as_of is not None:
            images = choose(_past_images(reader, as_of), wanted)
        elif output in _DOCUMENTS and not quiet:
            images = choose(reader.list(), wanted)
        else:
            images = choose(reader.summaries(), wanted)
    if quiet:
        write_all(f"{escape(image.id)}\n" for image in images)
        return
    columns = Columns(digests=digests, pinned=pinned, truncated=not no_trunc)
    rows = (row for image in images for row in columns.rows(image, wanted))
    listing = Listing(columns.columns(), rows, "images", lambda: map(_document, images))
    write_rows(listing, output, heading=not no_heading)


def choose(images: Iterable[AnImage], wanted: Reference | None) -> list[AnImage]:
    """Return the images, or those that have the wanted name, in crictl's order."""
    chosen = images if wanted is None else [image for image in images if _names(image, wanted)]
    return sorted(chosen, key=_sort_key)


class Columns(NamedTuple):
    """The optional columns of a table of images, and whether ids and digests are truncated."""

    digests: bool
    pinned: bool
    truncated: bool

    def columns(self) -> list[Column]:
        """Return the columns."""
        shown = as_id if self.truncated else as_text
        return self._row(
            Column("repository", heading="IMAGE"),
            Column("tag"),
            Column("digest", shown),
            Column("image_id", shown),
            Column("size", as_size),
            Column("pinned"),
        )

    def rows(self, image: Shown, wanted: Reference | None = None) -> Iterator[list[Any]]:
        """Yield a row for each name of an image, or for each that matches `wanted`."""
        digests = image.repo_digests if self.digests else ()
        digest = digests[0].partition("@")[2] if digests else None
        for repository, tag in _names(image, wanted):
            yield self._row(repository, tag, digest, image.id, _size(image), image.pinned)

    def _row(
        self, name: Cell, tag: Cell, digest: Cell, image_id: Cell, size: Cell, pinned: Cell
    ) -> list[Cell]:
        digests, pins = [digest] if self.digests else [], [pinned] if self.pinned else []
        return [name, tag, *digests, image_id, size, *pins]


def _sort_key(image: Shown) -> tuple[int, str]:
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


def _size(image: Shown) -> int | None:
    return None if image.size is None else unsigned(image.size)


def _names(image: Shown, wanted: Reference | None = None) -> Names:
    """Return the repository and tag of each row of an image, with None for what it lacks.

    `wanted` selects the rows with its repository and tag, or all rows if the image has its digest.
    """
    tagged: Names = [
        (repository, tag) for repository, _, tag in (name.rpartition(":") for name in image.repo_tags)
    ]
    if wanted is None and tagged:
        return tagged
    digests = image.repo_digests
    if wanted is None:
        return [(digests[0].partition("@")[0], None)] if digests else [(None, None)]
    if wanted.digest:
        return _names(image) if f"{wanted.name}@{wanted.digest}" in digests else []
    chosen: Names = [(name, tag) for name, tag in tagged if name == wanted.name and wanted.tag in ("", tag)]
    by_digest = not wanted.tag and any(name.startswith(f"{wanted.name}@") for name in digests)
    return chosen if chosen or not by_digest else [(wanted.name, None)]


def _past_images(reader: Reader, at: int) -> list[ListedImage]:
    # Imported here because few lists are of the past.
    from imagekeep.database.history import images_as_of
    from imagekeep.internals import ask

    return ask(reader, images_as_of, at)


def _document(image: Shown) -> dict[str, Any]:
    """Return runtime.v1.Image as protobuf's JSON with every field; 64-bit numbers are strings.

    What the history does not know of a past image is null.
    """
    user = image.config["config"].get("User", "") if isinstance(image, Image) else ""
    uid, username = split_user(user)
    size = _size(image)
    return {
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "size": None if size is None else str(size),
        "uid": None if uid is None else {"value": str(uid)},
        "username": username,
        "spec": None,
        "pinned": image.pinned,
    }
