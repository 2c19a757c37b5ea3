"""Names the images in a layout or an archive.

An entry of index.json is named by the first of these annotations that has a valid reference:

1. `io.containerd.image.name`, which containerd and docker write: a whole reference;
2. `org.opencontainers.image.ref.name`, if it has a `/`, a `:` or a `@`: a whole reference
   (containerd: core/images/archive/reference.go);
3. the same annotation as a tag of the base name, which is the caller's, else that of the directory or the file.

Each is normalized as by ParseDockerRef. A name that does not parse is dropped with a warning. A name with a digest
keeps its repository and tag, but gets the target's digest: Docker writes the index's when it saves one platform.
An entry has two references, as the CRI plugin creates for a pull: its tag, and its repository at its target's
digest. An entry without a valid name has the base name at its digest, or else `docker.io/library/import` at its
digest; `ctr images import` would name it `import-DATE` (containerd: cmd/ctr/commands/images/import.go). The digest
alone is not a name: among the references of a CRI image, a bare digest is an image's id.

The base name of a directory or a file is its name in lower case, without a suffix of archives: `Shop.tar.gz`
gives `docker.io/library/shop`. If that is not a valid repository, there is none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest
from imagekeep.errors import InvalidReferenceError, printable
from imagekeep.reference import Reference, parse_docker_ref, parse_normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE_NAME = "io.containerd.image.name"
"""The annotation that holds an image's whole reference (containerd: images.AnnotationImageName)."""

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that holds a tag, or by many tools a whole reference (image-spec, annotations)."""

FALLBACK_REPOSITORY = Reference("docker.io", "library/import")
"""The repository of an entry if neither its annotations nor the base name have one."""

_COMPRESSED = (".gz", ".zst", ".zstd", ".xz", ".bz2")
_ARCHIVE_SUFFIXES = (
    *(f".tar{suffix}" for suffix in _COMPRESSED),
    *_COMPRESSED,
    *(".tgz", ".tzst", ".txz", ".tbz2", ".tbz", ".tar"),
)


@dataclass(frozen=True, slots=True)
class Names:
    """The references of an entry: its tag, and its repository at its digest; None if it has none.

    `own` is true if the name is from the annotations, not from the base name alone. `dropped` has each dropped
    name, quoted, with the reason.
    """

    tag: str | None
    at_digest: str | None
    own: bool
    dropped: tuple[str, ...] = ()


def parse_base_name(text: str) -> Reference:
    """Parse the repository that tags are appended to, which has neither tag nor digest.

    Raises InvalidReferenceError, with the reason base_name_has_tag_or_digest or one of `parse_normalized`.
    """
    reference = parse_normalized(text)
    if reference.tag or reference.digest:
        raise InvalidReferenceError(text, "base_name_has_tag_or_digest")
    return reference


def default_base_name(path: Path) -> Reference | None:
    """Return the base name of a directory or a file, or None if its name is not a valid repository."""
    # Not resolve(), which would follow a link to another name.
    name = Path(os.path.abspath(path)).name.lower()  # noqa: PTH100
    for suffix in _ARCHIVE_SUFFIXES:
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    try:
        return parse_base_name(name)
    except InvalidReferenceError:
        return None


def names_of(annotations: Mapping[str, str], digest: str, base: Reference | None) -> Names:
    """Return the references of the entry with these annotations and this target digest.

    An invalid digest is left out.
    """
    dropped: list[str] = []
    reference = _named(annotations, base, dropped)
    repository = reference or base or FALLBACK_REPOSITORY
    at_digest = None
    if is_digest(digest):
        at_digest = str(replace(repository, tag="", digest=digest))
    tag = str(reference) if reference and reference.tag else None
    return Names(tag, at_digest, own=reference is not None, dropped=tuple(dropped))


def _named(annotations: Mapping[str, str], base: Reference | None, dropped: list[str]) -> Reference | None:
    """Return the first valid reference in the annotations, without its digest; add the others to `dropped`."""
    image_name = annotations.get(IMAGE_NAME)
    if image_name and (reference := _parsed(image_name, image_name, dropped)):
        return reference
    name = annotations.get(REF_NAME, "")
    if any(mark in name for mark in "/:@"):
        return _parsed(name, name, dropped)
    if name and base:
        return _parsed(f"{base}:{name}", name, dropped)
    if name:
        dropped.append(f'"{printable(name)}": no repository to put the tag in')
    return None


def _parsed(text: str, name: str, dropped: list[str]) -> Reference | None:
    """Return a reference without its digest; if it is invalid, add the annotation's `name` to `dropped`."""
    try:
        reference = parse_docker_ref(text)
    except InvalidReferenceError as error:
        reason = "not a tag" if text != name else error.reason.replace("_", " ")
        dropped.append(f'"{printable(name)}": {reason}')
        return None
    if not reference.digest:
        return reference
    return replace(reference, tag=parse_normalized(text).tag, digest="")
