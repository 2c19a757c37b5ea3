"""An OCI image layout in a directory (image-spec, image-layout), read as it changes.

::

    DIRECTORY/oci-layout                 {"imageLayoutVersion": "1.0.0"}
    DIRECTORY/index.json                 the entries: see imagekeep.sources.naming for what they are called
    DIRECTORY/blobs/ALGORITHM/ENCODED    every document and layer by its digest

No file stays open. Each call compares the inode, size and times of index.json with those of the last reading; a
file that had changed less than two seconds before is read again in any case, because another change could have
the same times. A missing, incomplete or invalid index.json is an error and never "no images": a copy in progress
or a file system that is not mounted must not empty a store.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from imagekeep.digest import ENCODED_LENGTHS, is_digest, split
from imagekeep.errors import (
    ContentNotFoundError,
    CorruptError,
    ImagekeepError,
    InvalidDocumentError,
    InvalidReferenceError,
    printable,
)
from imagekeep.identity import SourceIdentity
from imagekeep.oci.content import BLOBS_LIMIT, DOCUMENT_LIMIT, ContentInfo, require_few_blobs
from imagekeep.oci.documents import ENTRIES_LIMIT
from imagekeep.oci.gojson import Reason, decode, list_of, parse, struct, text
from imagekeep.paths import full_path
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.artifacts import ArtifactFilter
from imagekeep.sources.directory import Signature, open_regular, read_whole, regular_sizes
from imagekeep.sources.listing import list_entries, parse_entries
from imagekeep.sources.naming import default_base_name, parse_base_name

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from imagekeep.image import ImageRecord
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.sources.artifacts import Entry
    from imagekeep.sources.listing import Listing

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
BLOBS = "blobs"
LAYOUT_VERSION = "1.0.0"

SETTLING_TIME = 2_000_000_000
"""Nanoseconds after which another change surely shows in a file's times: FAT counts in 2 s."""

SKOPEO_FILE = "version"
SKOPEO_MARK = b"Directory Transport Version:"
"""How the version file of skopeo's `dir:` transport begins (containers/image: directory)."""

SAVED_FILE = "manifest.json"
"""Docker's list of an archive's images, beside a layout."""

_SAVED = list_of(struct({"RepoTags": list_of(text, ENTRIES_LIMIT)}), ENTRIES_LIMIT)
_LAYOUT = struct({"imageLayoutVersion": text})


class OCILayout:
    """The images of an OCI layout; fulfils `Source`, and may be called from several threads at once."""

    def __init__(self, directory: Path | str, *, base_name: str | None = None) -> None:
        """Name the directory; nothing is read yet.

        `base_name` is the repository of entries that have only a tag, by default the directory's name. Raises
        InvalidReferenceError.
        """
        self.directory = full_path(directory)
        self._base = default_base_name(self.directory) if base_name is None else parse_base_name(base_name)
        self._lock = threading.Lock()
        self._reading: _Reading | None = None
        self._artifacts = ArtifactFilter(self)

    @property
    def identity(self) -> SourceIdentity:
        """Return which source this is, for a store to remember."""
        return SourceIdentity.of_path("oci", self.directory)

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError, SourceUnavailableError if the directory is missing, InvalidArgumentError if it is
        a file, PermissionDeniedError, InvalidDocumentError if it is not a layout, and CorruptContentError if a file
        in it is a link.
        """
        return self._listing().get(reference)

    def records(self) -> list[ImageRecord]:
        """Return every record: of each entry's tag, and of its repository at its digest. Raises as `get` does."""
        return self._listing(look_again=True).records()

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob of at most the document cap, not verified.

        Raises InvalidDigestError, ContentNotFoundError, CorruptContentError if it is larger, a link or not a
        regular file, SourceUnavailableError and PermissionDeniedError.
        """
        algorithm, encoded = split(descriptor.digest)
        try:
            with open_regular(self.directory, BLOBS, algorithm, encoded) as opened:
                return read_whole(opened, DOCUMENT_LIMIT, descriptor.digest)
        except FileNotFoundError:
            raise self._missing_blob(descriptor.digest) from None

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob, of any size; raises as `read` does."""
        algorithm, encoded = split(digest)
        try:
            with open_regular(self.directory, BLOBS, algorithm, encoded) as opened:
                return ContentInfo(digest, os.fstat(opened).st_size)
        except FileNotFoundError:
            raise self._missing_blob(digest) from None

    def contents(self, digests: Collection[str] | None = None) -> dict[str, int]:
        """Return the sizes of these blobs, or of all; leave out those that are missing or not regular files.

        Raises as `read` does for the directory, and FailedPreconditionError for more than BLOBS_LIMIT blobs.
        """
        sizes: dict[str, int] = {}
        for algorithm in ENCODED_LENGTHS:
            mark = f"{algorithm}:"
            names = (
                None
                if digests is None
                else [
                    digest.removeprefix(mark)
                    for digest in digests
                    if digest.startswith(mark) and is_digest(digest)
                ]
            )
            if names is None or names:
                sizes.update(self._sizes(mark, names))
        return sizes

    def _sizes(self, mark: str, names: Collection[str] | None) -> dict[str, int]:
        """Return the sizes of the blobs of one algorithm with these encoded digests, or of all."""
        try:
            found = regular_sizes(self.directory, BLOBS, mark[:-1], names=names)
            sizes = {mark + name: size for name, size in islice(found, BLOBS_LIMIT + 1)}
        except FileNotFoundError:
            return {}
        require_few_blobs(len(sizes), f"layout {printable(self.directory)}")
        return (
            sizes if names is not None else {digest: sizes[digest] for digest in sizes if is_digest(digest)}
        )

    def _listing(self, *, look_again: bool = False) -> Listing:
        """Return what index.json lists now, parsed again only if it changed.

        With `look_again`, an entry whose document was missing is judged again: it may be an artifact.
        """
        try:
            with self._lock, open_regular(self.directory, INDEX_FILE) as opened:
                signature = Signature.of(os.fstat(opened))
                reading = self._reading
                if reading is None or reading.signature != signature or not reading.settled:
                    self._reading = reading = self._read_index(opened, signature)
                if look_again and not reading.listing.is_final:
                    listing = list_entries(reading.entries, self._base, self._artifacts)
                    self._reading = reading = replace(reading, listing=listing)
                return reading.listing
        except FileNotFoundError:
            raise self._not_a_layout(INDEX_FILE) from None

    def _read_index(self, opened: int, signature: Signature) -> _Reading:
        """Read index.json; parse it unless its content is that of the last reading."""
        self._check_version()
        started = time.time_ns()
        name = str(self.directory / INDEX_FILE)
        document = read_whole(opened, DOCUMENT_LIMIT, name)
        settled = started - max(signature.modified, signature.changed) > SETTLING_TIME
        previous = self._reading
        if previous is not None and previous.document == document:
            return replace(previous, signature=signature, settled=settled)
        entries = parse_entries(document, name)
        listing = list_entries(entries, self._base, self._artifacts)
        self._check_unpacked(entries, listing)
        listing.log_dropped(name)
        return _Reading(signature, document, entries, listing, settled)

    def _check_version(self) -> None:
        """Check the file that marks a layout (image-spec, image-layout, oci-layout file)."""
        path = self.directory / LAYOUT_FILE
        try:
            with open_regular(self.directory, LAYOUT_FILE) as opened:
                check_layout_version(read_whole(opened, DOCUMENT_LIMIT, str(path)), str(path))
        except FileNotFoundError:
            raise self._not_a_layout(LAYOUT_FILE) from None

    def _check_unpacked(self, entries: tuple[Entry, ...], listing: Listing) -> None:
        """Raise InvalidDocumentError if a manifest.json beside the index lists images that the index does not.

        That is an unpacked archive of Docker; the store would lose those images.
        """
        name = str(self.directory / SAVED_FILE)
        try:
            with open_regular(self.directory, SAVED_FILE) as opened:
                saved = decode(_SAVED, parse(read_whole(opened, DOCUMENT_LIMIT, name), name), name)
        except FileNotFoundError:
            return
        except CorruptError:
            if entries:
                return  # a file of another program that happens to have this name
            raise
        if saved and not entries:
            detail = f"lists images, and {INDEX_FILE} none; give the archive itself, archive:FILE"
            raise InvalidDocumentError(name, Reason.TYPE, detail)
        tags = (tag for image in saved or () for tag in image.get("RepoTags") or ())
        if unlisted := next((tag for tag in tags if not _is_listed(tag, listing)), None):
            detail = (
                f"lists {printable(unlisted)}, and {INDEX_FILE} does not; give the archive itself, archive:FILE, "
                f"or delete {SAVED_FILE} if it is out of date"
            )
            raise InvalidDocumentError(name, Reason.TYPE, detail)

    def _not_a_layout(self, missing: str) -> InvalidDocumentError:
        """Return the error for a directory that lacks a file of a layout; names skopeo's `dir:` format."""
        try:
            with open_regular(self.directory, SKOPEO_FILE) as opened:
                if read_whole(opened, DOCUMENT_LIMIT, SKOPEO_FILE).startswith(SKOPEO_MARK):
                    return skopeo_directory(str(self.directory))
        except (FileNotFoundError, ImagekeepError):
            pass
        return _missing(self.directory / missing)

    def _missing_blob(self, digest: str) -> ContentNotFoundError:
        return ContentNotFoundError(f"layout {printable(self.directory)} has no blob {digest}")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of index.json; `settled` if a later change must show in the signature."""

    signature: Signature
    document: bytes
    entries: tuple[Entry, ...]
    listing: Listing
    settled: bool


def _is_listed(tag: str, listing: Listing) -> bool:
    """Return whether a listing has this tag of a manifest.json, or nothing could have it."""
    try:
        return str(parse_docker_ref(tag)) in listing.by_reference
    except InvalidReferenceError:
        return True


def check_layout_version(document: bytes, name: str) -> None:
    """Check the content of an oci-layout file; raises InvalidDocumentError for any version but 1.0.0."""
    version = decode(_LAYOUT, parse(document, name), name).get("imageLayoutVersion", "")
    if version != LAYOUT_VERSION:
        raise InvalidDocumentError(name, Reason.TYPE, f"imageLayoutVersion is not {LAYOUT_VERSION}")


def skopeo_directory(name: str) -> InvalidDocumentError:
    """Return the error for the output of `skopeo copy … dir:`, in a directory or an archive."""
    return InvalidDocumentError(
        name,
        Reason.SYNTAX,
        "this is skopeo's dir: format, not an OCI layout (convert it with `skopeo copy dir:… oci:…`)",
    )


def _missing(path: Path) -> InvalidDocumentError:
    """Return the error for a missing file of a layout."""
    detail = "missing (not an OCI layout, or an unfinished one)"
    return InvalidDocumentError(str(path), Reason.SYNTAX, detail)
