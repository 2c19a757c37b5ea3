"""Images as crictl shows them (cri-tools: cmd/crictl/image.go): their order, their rows, their JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.cli.formats import NONE, human_size, truncate, unsigned
from imagekeep.oci.user import split_user
from imagekeep.reference import repo_tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.image import Image, ImageSummary
    from imagekeep.reference import Reference

Name = tuple[str, str]
"""A repository and a tag of it."""


def sort_key(image: ImageSummary) -> tuple[int, str]:
    """Return the key of crictl's order: by the first tag, else the first digest, else the id.

    crictl compares two images by what both have, which is not a total order; here images with a tag come first,
    then those with a digest.
    """
    for name in image.references:  # the first tag comes early; the rest need not be parsed
        if tags := repo_tags([name]):
            return 0, tags[0]
    if digests := image.repo_digests:
        return 1, digests[0]
    return 2, image.id


def names(image: ImageSummary, wanted: Reference | None = None) -> list[Name]:
    """Return the repository and the tag of each row of an image, NONE if it has none.

    If a name is wanted, only those with its repository and its tag, or all of them if it is a digest that the
    image has.
    """
    tagged = [(repository, tag) for repository, _, tag in (name.rpartition(":") for name in image.repo_tags)]
    if wanted is None and tagged:
        return tagged
    digests = image.repo_digests
    if wanted is None:
        return [(digests[0].partition("@")[0] if digests else NONE, NONE)]
    if wanted.digest:
        return names(image) if f"{wanted.name}@{wanted.digest}" in digests else []
    chosen = [(name, tag) for name, tag in tagged if name == wanted.name and wanted.tag in ("", tag)]
    by_digest = not wanted.tag and any(name.startswith(f"{wanted.name}@") for name in digests)
    return chosen or ([(wanted.name, NONE)] if by_digest else [])


class Columns(NamedTuple):
    """The columns of a table of images, and whether ids and digests are truncated."""

    digests: bool
    pinned: bool
    truncated: bool

    def heading(self) -> list[str]:
        """Return the header row."""
        return self._row("IMAGE", "TAG", "DIGEST", "IMAGE ID", "SIZE", "PINNED")

    def rows(self, image: ImageSummary, wanted: Reference | None = None) -> Iterator[list[str]]:
        """Yield a row for each name of an image; `wanted` as in `names`."""
        printable = truncate if self.truncated else str
        digests = image.repo_digests if self.digests else ()
        digest = printable(digests[0].partition("@")[2]) if digests else NONE
        size, pinned = human_size(image.size), str(image.pinned).lower()
        for repository, tag in names(image, wanted):
            yield self._row(repository, tag, digest, printable(image.id), size, pinned)

    def _row(self, name: str, tag: str, digest: str, image_id: str, size: str, pinned: str) -> list[str]:
        digests, pins = [digest] if self.digests else [], [pinned] if self.pinned else []
        return [name, tag, *digests, image_id, size, *pins]


def message(image: Image) -> dict[str, Any]:
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
