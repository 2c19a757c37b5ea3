"""An archive of images, read in place: nothing is unpacked, and nothing is ever written.

`docker save`, `podman save`, `skopeo copy … oci-archive:` and `docker-archive:` make them, plain or compressed
with gzip, zstd, xz or bzip2; see `imagekeep.sources.archive.images` for what one lists. An archive that lists no
image is an error and never "no images": nobody saves an empty archive, and it would empty a store.

How an archive is read:

- A **plain file** in one pass over its headers, skipping all content. Documents are read in place on demand. The
  file is opened for each read, and listed again if its inode, size or times have changed, so a replaced archive is
  noticed.
- A **compressed file**, which cannot be read from the middle, and **standard input**, which cannot be read twice,
  in one pass to the end, which verifies the checksum. What may be a document (a member that begins as JSON, at
  most the document cap) is held, up to `HELD_LIMIT` bytes; the rest is hashed a chunk at a time. So nothing is
  spooled to disk, and a decompression bomb takes time but no memory. Standard input is read when the source is
  constructed.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.errors import InvalidDocumentError
from imagekeep.identity import SourceIdentity
from imagekeep.oci.gojson import Reason
from imagekeep.paths import full_path
from imagekeep.sources.archive.blobs import DocumentBuffer, FileBlob, open_archive
from imagekeep.sources.archive.compression import MAGIC_LENGTH, compression_of
from imagekeep.sources.archive.images import ArchivedImages
from imagekeep.sources.archive.members import read_members
from imagekeep.sources.archive.tar_input import FileTarInput, read_range, stream_input
from imagekeep.sources.artifacts import ArtifactFilter
from imagekeep.sources.directory import Signature
from imagekeep.sources.listing import list_entries
from imagekeep.sources.naming import default_base_name, parse_base_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from imagekeep.image import ImageRecord
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.sources.archive.blobs import Blob
    from imagekeep.sources.archive.compression import ByteStream
    from imagekeep.sources.archive.members import MemberTable
    from imagekeep.sources.archive.tar import Member
    from imagekeep.sources.listing import Listing

STANDARD_INPUT = "stdin"
"""The name of standard input in errors, and its base name."""


class Archive:
    """The images of an archive; fulfils `Source`, and may be called from several threads at once."""

    def __init__(self, file: Path | str | ByteStream, *, base_name: str | None = None) -> None:
        """Take the path of a file, which is read later, or a stream, which is read to its end now.

        `base_name` is the repository of entries that have only a tag, by default the file's name without
        its suffix, `stdin` for a stream. Raises InvalidReferenceError, and for a stream as `get` does.
        """
        self._path = full_path(file) if isinstance(file, Path | str) else Path(STANDARD_INPUT)
        self._identity = (
            SourceIdentity.of_path("archive", file)
            if isinstance(file, Path | str)
            else SourceIdentity("archive:-")
        )
        self._base = default_base_name(self._path) if base_name is None else parse_base_name(base_name)
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._passed: _Opened | None = None
        if not isinstance(file, Path | str):
            self._passed = self._list(None, _read_passing(file, STANDARD_INPUT))

    @property
    def identity(self) -> SourceIdentity:
        """Return which source this is, for a store to remember."""
        return self._identity

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError, SourceUnavailableError if the file is missing, PermissionDeniedError, and
        InvalidDocumentError if it is not an archive of images, is damaged, truncated or exceeds a limit.
        """
        return self._current().listing.get(reference)

    def records(self) -> list[ImageRecord]:
        """Return every record: of each entry's tag, and of its repository at its digest. Raises as `get` does."""
        return self._current().listing.records()

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob of at most the document cap, not verified.

        Raises InvalidDigestError, ContentNotFoundError, CorruptContentError if it is larger, and as `get`.
        """
        return self._current().images.read(descriptor)

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob; raises InvalidDigestError, ContentNotFoundError, and as `get` does."""
        return self._current().images.info(digest)

    def contents(self, digests: Collection[str] | None = None) -> dict[str, int]:
        """Return the sizes of these blobs, or of all; leave out those that are missing. Raises as `get` does."""
        return self._current().images.sizes(digests)

    def _current(self) -> _Opened:
        """Return the listed archive, listing it again only if the file changed."""
        if self._passed is not None:
            return self._passed
        with self._lock, open_archive(self._path) as descriptor:
            signature = Signature.of(os.fstat(descriptor))
            if self._opened is None or self._opened.signature != signature:
                self._opened = self._list(signature, _read_file(descriptor, self._path, signature))
            return self._opened

    def _list(self, signature: Signature | None, table: MemberTable) -> _Opened:
        """List the images of an archive whose members are known."""
        name = str(self._path)
        images = ArchivedImages(table, name, self._base)
        listing = list_entries(images.entries, self._base, ArtifactFilter(images))
        if not listing.by_reference:
            raise InvalidDocumentError(name, Reason.TYPE, "the archive lists no image")
        listing.log_dropped(name)
        return _Opened(signature, images, listing)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A listed archive; a stream has no signature."""

    signature: Signature | None
    images: ArchivedImages
    listing: Listing


def _read_file(descriptor: int, path: Path, signature: Signature) -> MemberTable:
    """Return the members of an open file, plain or compressed."""
    name = str(path)
    if compression_of(read_range(descriptor, 0, MAGIC_LENGTH, name)):
        with open(descriptor, "rb", closefd=False) as file:
            return _read_passing(file, name)
    tar = FileTarInput(descriptor, name)

    def take(member: Member) -> Blob:
        return FileBlob(path, signature, tar.position, member.size)

    return read_members(tar, take)


def _read_passing(stream: ByteStream, name: str) -> MemberTable:
    """Return the members of an archive that can be read only once."""
    tar = stream_input(stream, name)
    buffer = DocumentBuffer()
    table = read_members(tar, lambda member: buffer.take(member, tar))
    # The checksum of the compression comes last, after the end of the tar.
    tar.drain()
    return table
