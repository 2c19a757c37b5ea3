"""The rows in which lists show images: crictl's, wider ones, and the placeholders of docker's --format."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from imagekeep.cli.formats import NONE, human_size, unsigned
from imagekeep.cli.rows import Column, as_id, as_size, as_text
from imagekeep.questions.ages import age_in_words
from imagekeep.questions.listed import ListedImage
from imagekeep.questions.moments import SECOND
from imagekeep.questions.sizes import format_size
from imagekeep.reference import parse_any, repo_tags
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from imagekeep.image import Image, ImageSummary
    from imagekeep.questions.globs import ReferenceGlob
    from imagekeep.reference import Reference

    Shown = ImageSummary | ListedImage
    Names = list[tuple[str | None, str | None]]

AnImage = TypeVar("AnImage", "ImageSummary", "Image", ListedImage)
Cell = TypeVar("Cell")

NOT_KNOWN = "N/A"
"""What docker shows for a size or a number that it does not know."""

ID_LENGTH = 12
"""Characters of a truncated id in docker."""


def choose(images: Iterable[AnImage], wanted: Reference | None) -> list[AnImage]:
    """Return the images, or those that have the wanted name, in crictl's order."""
    chosen = images if wanted is None else [image for image in images if names_of(image, wanted)]
    return sorted(chosen, key=_sort_key)


class Columns(NamedTuple):
    """The optional columns of a table of images, and whether ids and digests are truncated.

    `now` is the time to which ages are shown, in nanoseconds since 1970. Of names, only those that match one of the
    patterns are shown, if any does.
    """

    digests: bool
    pinned: bool
    truncated: bool
    wide: bool = False
    now: int = 0
    patterns: Sequence[ReferenceGlob] = ()

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
            [
                Column("created", self._age),
                Column("platform"),
                Column("state"),
                Column("last_used", self._age),
                Column("unique_size", as_size, "UNIQUE"),
                Column("shared_size", as_size, "SHARED"),
            ],
        )

    def rows(self, image: Shown, wanted: Reference | None = None) -> Iterator[list[Any]]:
        """Yield a row for each name of an image, or for each that matches `wanted`."""
        digests = image.repo_digests if self.digests else ()
        digest = digests[0].partition("@")[2] if digests else None
        more = _wide_values(image) if self.wide and isinstance(image, ListedImage) else []
        names = names_of(image, wanted)
        matching = [name for name in names if _matches(self.patterns, *name)] if self.patterns else []
        for repository, tag in matching or names:
            yield self._row(repository, tag, digest, image.id, size_of(image), image.pinned, more)

    def _row(
        self, name: Cell, tag: Cell, digest: Cell, image_id: Cell, size: Cell, pinned: Cell, more: list[Cell]
    ) -> list[Cell]:
        digests, pins = [digest] if self.digests else [], [pinned] if self.pinned else []
        return [name, tag, *digests, image_id, size, *pins, *(more if self.wide else [])]

    def _age(self, time: str | None) -> str:
        return NONE if time is None else since(time, self.now)


def _matches(patterns: Sequence[ReferenceGlob], repository: str | None, tag: str | None) -> bool:
    name = f"{repository}:{tag}" if tag else repository
    return name is not None and any(pattern.matches_reference(name) for pattern in patterns)


def _wide_values(image: ListedImage) -> list[Any]:
    return [
        created_of(image),
        image.platform,
        image.state,
        None if image.last_used is None else image.last_used.isoformat().replace("+00:00", "Z"),
        image.unique_size,
        image.shared_size,
    ]


def created_of(image: ListedImage) -> str | None:
    """Return when an image was made as RFC 3339 in UTC, to the second, or None."""
    if image.created is None:
        return None
    created = from_microseconds(image.created // SECOND * 1_000_000)
    return created.isoformat().replace("+00:00", "Z")


def since(time: str, now: int) -> str:
    """Return how long ago a time was, in words."""
    seconds = now / SECOND - datetime.fromisoformat(time).timestamp()
    return f"{age_in_words(seconds)} ago"


def size_of(image: Shown) -> int | None:
    """Return a size as the CRI's unsigned number."""
    return None if image.size is None else unsigned(image.size)


def names_of(image: Shown, wanted: Reference | None = None) -> Names:
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
        return names_of(image) if f"{wanted.name}@{wanted.digest}" in digests else []
    chosen: Names = [(name, tag) for name, tag in tagged if name == wanted.name and wanted.tag in ("", tag)]
    by_digest = not wanted.tag and any(name.startswith(f"{wanted.name}@") for name in digests)
    return chosen if chosen or not by_digest else [(wanted.name, None)]


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


PLACEHOLDERS: dict[str, str] = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
    "Name": "NAME",
    "Platform": "PLATFORM",
    "State": "STATE",
    "Pinned": "PINNED",
}
"""docker's placeholders and their headings, nerdctl's Name and Platform, and two of our own."""

DOCKERS_PLACEHOLDERS = tuple(sorted(PLACEHOLDERS.keys() - {"Name", "Platform", "State", "Pinned"}))


def template_values(
    image: ListedImage, now: int, patterns: Sequence[ReferenceGlob] = (), *, truncated: bool
) -> Iterator[dict[str, str]]:
    """Yield the values of the placeholders for each tag of an image, else for each digest, else once.

    Of names, only those that match one of the patterns, if any does.
    """
    common = _common_values(image, now, truncated=truncated)
    rows = _docker_rows(image)
    matching = [row for row in rows if any(pattern.matches_reference(row[0]) for pattern in patterns)]
    for name, repository, tag, digest in matching or rows:
        yield {"Name": name, "Repository": repository, "Tag": tag, "Digest": digest, **common}


def _common_values(image: ListedImage, now: int, *, truncated: bool) -> dict[str, str]:
    created = created_of(image)
    return {
        "ID": image.id.partition(":")[2][:ID_LENGTH] if truncated else image.id,
        "CreatedSince": NOT_KNOWN if created is None else since(created, now),
        "CreatedAt": NOT_KNOWN if created is None else _local_time(created),
        "Size": NOT_KNOWN if image.size is None else human_size(image.size),
        "SharedSize": NOT_KNOWN if image.shared_size is None else format_size(image.shared_size),
        "UniqueSize": NOT_KNOWN if image.unique_size is None else format_size(image.unique_size),
        "Containers": NOT_KNOWN if image.containers is None else str(image.containers),
        "Platform": image.platform or NONE,
        "State": image.state or NOT_KNOWN,
        "Pinned": str(image.pinned).lower(),
    }


def _local_time(created: str) -> str:
    """Return a time as docker writes it: Go's `2006-01-02 15:04:05 -0700 MST`, in the zone of the process."""
    moment = datetime.fromisoformat(created)
    with suppress(OverflowError):  # Go's zero time is in the year 0 west of Greenwich
        moment = moment.astimezone()
    return f"{moment.isoformat(' ')[:19]}{moment.strftime(' %z %Z')}"


def _docker_rows(image: ListedImage) -> list[tuple[str, str, str, str]]:
    """Return name, familiar repository, tag and digest of each row that docker shows."""
    parsed = [
        (name, _reference(name), target) for name, target in zip(image.references, image.targets, strict=True)
    ]
    named = [(name, reference, target) for name, reference, target in parsed if reference]
    tagged = [
        (name, reference.familiar_name, reference.tag, reference.digest or target or NONE)
        for name, reference, target in named
        if reference.tag
    ]
    by_digest = [
        (name, reference.familiar_name, NONE, reference.digest or NONE) for name, reference, _ in named
    ]
    return tagged or by_digest or [(image.references[0] if image.references else NONE, NONE, NONE, NONE)]


def _reference(name: str) -> Reference | None:
    from imagekeep.errors import InvalidReferenceError

    try:
        reference = parse_any(name)
    except InvalidReferenceError:
        return None
    return reference if reference.name else None


SORTS: Mapping[str, Callable[[ListedImage], Any]] = {
    "created": lambda image: image.created,
    "size": size_of,
    "repository": lambda image: names_of(image)[0][0],
    "tag": lambda image: names_of(image)[0][1],
    "id": lambda image: image.id,
    "last-used": lambda image: image.last_used,
    "first-seen": lambda image: image.first_seen,
    "unique-size": lambda image: image.unique_size,
}

_ASCENDING = ("repository", "tag", "id")


def sort_images(images: Sequence[ListedImage], key: str, *, reverse: bool) -> list[ListedImage]:
    """Return images sorted: texts from A, sizes from the largest, times from the newest; unknown values last."""
    value_of = SORTS[key]
    known = [image for image in images if value_of(image) is not None]
    unknown = [image for image in images if value_of(image) is None]
    descending = (key not in _ASCENDING) is not reverse
    return sorted(known, key=lambda image: (value_of(image), image.id), reverse=descending) + unknown
