"""An archive of images, read in place: nothing is unpacked, and nothing is ever written.

`docker save`, `podman save`, `skopeo copy … oci-archive:` and `docker-archive:` make them, plain or gzip. One
that has an `oci-layout` is an OCI layout in a tar, also where it has a `manifest.json` beside it (docker from
version 25, `ctr images export`); any other is one of docker's (containerd: core/images/archive/importer.go).

How the bytes are come by:

- a **plain file**: one pass over the headers, skipping all content. A document is read from its place when
  it is asked for. The file is opened anew each time, and listed again when its inode, size or times have
  changed, so nothing is held open and an archive that is replaced is seen.
- a **gzip file**, which cannot be read from the middle, and **standard input**, which cannot be read twice:
  one pass over the whole. What may be a document (a member that begins as a JSON object or list, at most
  the document cap) is held, up to `HELD_LIMIT` bytes; the rest is hashed as it passes, a chunk at a time,
  and forgotten. So nothing is spooled to disk, and a gzip bomb costs time but no memory. Standard input is
  read when the source is made, to its end.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imagekeep.digest import split, validate
from imagekeep.errors import ContentNotFoundError, InvalidDocumentError, printable
from imagekeep.identity import SourceIdentity
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.gojson import Reason
from imagekeep.paths import full_path
from imagekeep.sources.blobs import DocumentBuffer, FileBlob, open_archive
from imagekeep.sources.directory import Signature
from imagekeep.sources.docker_archive import convert
from imagekeep.sources.listing import list_entries, parse_entries
from imagekeep.sources.members import read_members
from imagekeep.sources.naming import default_base_name, parse_base_name
from imagekeep.sources.oci_layout import BLOBS, INDEX_FILE, LAYOUT_FILE, check_layout_version
from imagekeep.sources.tar_input import MAGIC_LENGTH, FileTape, StreamTape, is_gzip, read_range, stream_tape

if TYPE_CHECKING:
    from imagekeep.image import ImageRecord
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.sources.blobs import Blob
    from imagekeep.sources.listing import Entry, Listing
    from imagekeep.sources.members import MemberTable
    from imagekeep.sources.tar import Member
    from imagekeep.sources.tar_input import ByteStream

STANDARD_INPUT = "stdin"
"""What standard input is called in errors, and the base name of what has only a tag in it."""


class Archive:
    """The images of an archive; fulfils `Source`, and may be called from several threads at once."""

    def __init__(self, file: Path | str | ByteStream, *, base_name: str | None = None) -> None:
        """Name the file, of which nothing is read yet, or hand over a stream, which is read to its end.

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
            # Whoever writes into a pipe would be killed before it is done, if what follows were left unread.
            StreamTape(file, STANDARD_INPUT).drain()

    @property
    def identity(self) -> SourceIdentity:
        """Return which source this is, for a store to remember."""
        return self._identity

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError; SourceUnavailableError where the file is missing, PermissionDeniedError;
        InvalidDocumentError where it is no archive of images, is damaged, cut short or beyond the limits.
        """
        return self._current().listing.get(reference)

    def records(self) -> list[ImageRecord]:
        """Return every record: of each entry's tag, and of its repository at its digest. Raises as `get` does."""
        return self._current().listing.records()

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob of at most the document cap, not verified.

        Raises InvalidDigestError, ContentNotFoundError, CorruptContentError where it is larger, and as `get`.
        """
        return self._blob(descriptor.digest).read()

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob; raises InvalidDigestError, ContentNotFoundError, and as `get` does."""
        return ContentInfo(digest, self._blob(digest).size)

    def _blob(self, digest: str) -> Blob:
        """Return the blob with this digest."""
        validate(digest)
        blob = self._current().images.find(digest)
        if blob is None:
            raise ContentNotFoundError(f"archive {printable(self._path)} has no blob {digest}")
        return blob

    def _current(self) -> _Opened:
        """Return what the archive holds now, listed again only if the file changed."""
        if self._passed is not None:
            return self._passed
        with self._lock, open_archive(self._path) as descriptor:
            signature = Signature.of(os.fstat(descriptor))
            if self._opened is None or self._opened.signature != signature:
                self._opened = self._list(signature, _read_file(descriptor, self._path, signature))
            return self._opened

    def _list(self, signature: Signature | None, table: MemberTable) -> _Opened:
        """List the images of an archive whose members are known."""
        images = _images(table, str(self._path))
        return _Opened(signature, images, list_entries(images.entries, self._base))


class _Images(Protocol):
    """The entries of an archive, and its blobs by digest."""

    @property
    def entries(self) -> tuple[Entry, ...]: ...

    def find(self, digest: str) -> Blob | None: ...


@dataclass(frozen=True, slots=True)
class _Opened:
    """An archive that was listed; a stream has no signature."""

    signature: Signature | None
    images: _Images
    listing: Listing


@dataclass(frozen=True, slots=True)
class _LayoutImages:
    """An OCI layout in an archive, whose blobs are members by name."""

    entries: tuple[Entry, ...]
    table: MemberTable

    def find(self, digest: str) -> Blob | None:
        """Return the blob of a valid digest."""
        return self.table.find("/".join((BLOBS, *split(digest))))


def _images(table: MemberTable, name: str) -> _Images:
    """Return the images of an archive, of whichever kind it is."""
    layout = table.find(LAYOUT_FILE)
    if layout is None:
        return convert(table, name)
    check_layout_version(layout.read(), f"{name}, member {LAYOUT_FILE}")
    index = table.find(INDEX_FILE)
    if index is None:
        raise InvalidDocumentError(name, Reason.SYNTAX, f"the archive has {LAYOUT_FILE}, but no {INDEX_FILE}")
    return _LayoutImages(parse_entries(index.read(), f"{name}, member {INDEX_FILE}"), table)


def _read_file(descriptor: int, path: Path, signature: Signature) -> MemberTable:
    """Return the members of an open file, plain or gzip."""
    name = str(path)
    if is_gzip(read_range(descriptor, 0, MAGIC_LENGTH, name), name):
        with open(descriptor, "rb", closefd=False) as file:
            return _read_passing(file, name)
    tape = FileTape(descriptor, name)

    def take(member: Member) -> Blob:
        return FileBlob(path, signature, tape.position, member.size)

    return read_members(tape, take)


def _read_passing(stream: ByteStream, name: str) -> MemberTable:
    """Return the members of an archive that passes by once."""
    tape = stream_tape(stream, name)
    holder = DocumentBuffer()
    return read_members(tape, lambda member: holder.take(member, tape))
