"""The content of an archive's members: ranges of a file, or what was kept of a stream."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imagekeep.digest import digest_of
from imagekeep.errors import (
    InvalidArgumentError,
    InvalidDocumentError,
    PermissionDeniedError,
    SourceUnavailableError,
    printable,
)
from imagekeep.oci.content import DOCUMENT_LIMIT
from imagekeep.sources.archive.compression import CHUNK, MAGIC_LENGTH
from imagekeep.sources.archive.tar_input import read_range
from imagekeep.sources.directory import Signature, tag_given, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.sources.archive.tar import Member, TarInput

HELD_LIMIT = 64 << 20
"""Maximum bytes of documents held of an archive that cannot be read twice: some ten thousand images."""

SCALAR_LIMIT = 1024
"""Bytes besides white space up to which a member of any other JSON is held: `null` is a config in Go."""

_JSON_BEGINS = (b"{", b"[")
_SCALAR_BEGINS = tuple(bytes([begin]) for begin in b'"-0123456789tfn')
_JSON_SPACE = b" \t\r\n"


class Blob(Protocol):
    """A member's content; `size` is in bytes."""

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        ...

    def read(self) -> bytes:
        """Return the content; raises CorruptContentError if it exceeds the document cap."""
        ...

    def digest(self) -> str:
        """Return the sha256 digest of the content, read a chunk at a time."""
        ...

    def beginning(self) -> bytes:
        """Return the first MAGIC_LENGTH bytes."""
        ...


@dataclass(frozen=True, slots=True)
class FileBlob:
    """A range of a plain archive, read in place.

    `read`, `digest` and `beginning` raise SourceUnavailableError if the file has changed since it was listed.
    """

    path: Path
    signature: Signature
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the content; raises CorruptContentError if it exceeds the document cap."""
        if self.size > DOCUMENT_LIMIT:
            raise too_large(str(self.path), DOCUMENT_LIMIT)
        with self._opened() as descriptor:
            return read_range(descriptor, self.offset, self.size, str(self.path))

    def digest(self) -> str:
        """Return the digest, reading the range once."""
        hasher = hashlib.sha256()
        with self._opened() as descriptor:
            for start in range(self.offset, self.offset + self.size, CHUNK):
                count = min(CHUNK, self.offset + self.size - start)
                hasher.update(read_range(descriptor, start, count, str(self.path)))
        return f"sha256:{hasher.hexdigest()}"

    def beginning(self) -> bytes:
        """Return the first bytes."""
        with self._opened() as descriptor:
            return read_range(descriptor, self.offset, min(MAGIC_LENGTH, self.size), str(self.path))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield the file's descriptor if it is still the file that was listed."""
        with open_archive(self.path) as descriptor:
            if Signature.of(os.fstat(descriptor)) != self.signature:
                raise SourceUnavailableError(f"{printable(self.path)} changed while it was read (retry)")
            yield descriptor


@dataclass(frozen=True, slots=True)
class HashedBlob:
    """A member of a stream whose content is not held."""

    size: int
    hashed: str
    first: bytes
    name: str

    def read(self) -> bytes:
        """Raise CorruptContentError if it exceeds the document cap, InvalidDocumentError otherwise."""
        if self.size > DOCUMENT_LIMIT:
            raise too_large(self.name, DOCUMENT_LIMIT)
        raise InvalidDocumentError(self.hashed, InvalidDocumentError.Reason.SYNTAX, "not valid JSON")

    def digest(self) -> str:
        """Return the digest, taken as the content passed by."""
        return self.hashed

    def beginning(self) -> bytes:
        """Return the first bytes."""
        return self.first


@dataclass(slots=True)
class BufferedBlob:
    """A possible document, held in memory until the buffer drops it."""

    content: bytes
    name: str = ""
    dropped: HashedBlob | None = None

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return self.dropped.size if self.dropped else len(self.content)

    def read(self) -> bytes:
        """Return the content; raises InvalidDocumentError if it is held no longer."""
        if self.dropped:
            raise InvalidDocumentError(
                self.name,
                InvalidDocumentError.Reason.SYNTAX,
                f"the archive has more than {HELD_LIMIT} bytes of JSON, too many to hold in memory; "
                "decompress it to a file and give that",
            )
        return self.content

    def digest(self) -> str:
        """Return the digest of the content."""
        return self.dropped.hashed if self.dropped else digest_of(self.content)

    def beginning(self) -> bytes:
        """Return the first bytes."""
        return self.dropped.first if self.dropped else self.content[:MAGIC_LENGTH]

    def drop(self) -> None:
        """Drop the content; keep its size, digest and first bytes."""
        self.dropped = HashedBlob(len(self.content), self.digest(), self.beginning(), self.name)
        self.content = b""


class DocumentBuffer:
    """Reads the members of a stream: holds what may be a document, hashes the rest.

    A layer can be JSON too (an SBOM, an attestation). So once the buffer is full, the largest is dropped: a layer
    is larger than a manifest or a config, and is never read.
    """

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self._limit = limit
        self._held = 0
        self._taken = itertools.count()
        self._largest: list[tuple[int, int, BufferedBlob]] = []

    def take(self, member: Member, tar: TarInput) -> Blob:
        """Return the blob of a member whose content `tar` is at."""
        name = f"{tar.name}, member {member.name}"
        first = tar.read(min(CHUNK, member.size))
        if _may_be_document(first, member.size):
            return self._hold(first + tar.read(member.size - len(first)), name)
        hasher = hashlib.sha256(first)
        left = member.size - len(first)
        while left and (chunk := tar.read(min(CHUNK, left))):
            hasher.update(chunk)
            left -= len(chunk)
        return HashedBlob(member.size, f"sha256:{hasher.hexdigest()}", first[:MAGIC_LENGTH], name)

    def _hold(self, content: bytes, name: str) -> Blob:
        """Hold a member; drop the largest ones until the rest fit."""
        blob = BufferedBlob(content, name)
        self._held += len(content)
        heapq.heappush(self._largest, (-len(content), next(self._taken), blob))
        while self._held > self._limit:
            _, _, largest = heapq.heappop(self._largest)
            self._held -= largest.size
            largest.drop()
        return blob


def _may_be_document(first: bytes, size: int) -> bool:
    """Return whether a member that begins so can be a JSON document within the limit."""
    begins = first.lstrip(_JSON_SPACE)
    if size > DOCUMENT_LIMIT:
        return False
    if begins.startswith(_SCALAR_BEGINS):
        return len(begins.rstrip(_JSON_SPACE)) <= SCALAR_LIMIT
    return not begins or begins.startswith(_JSON_BEGINS)


@contextmanager
def open_archive(path: Path) -> Iterator[int]:
    """Yield a descriptor of an archive's file, closed afterwards.

    Raises SourceUnavailableError if there is no such file, PermissionDeniedError, and InvalidArgumentError
    for a directory or a pipe, saying what to give instead.
    """
    descriptor = _open(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise InvalidArgumentError(
                f"{printable(path)} is a directory (for an OCI layout give oci:DIRECTORY)"
            )
        if not stat.S_ISREG(mode):
            raise InvalidArgumentError(f"{printable(path)} is not a regular file (pipe it into archive:-)")
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a file for reading; O_NONBLOCK keeps a FIFO from blocking."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as failure:
        raise PermissionDeniedError(
            f"{printable(path)}: permission denied (make it readable, or run as its owner)"
        ) from failure
    except OSError as failure:
        if tagged := tag_given(path, "archive", os.path.isfile):
            raise tagged from failure
        reason = failure.strerror if not path.is_symlink() else f"{failure.strerror} (a dangling link)"
        raise SourceUnavailableError(f"cannot open {printable(path)}: {reason}") from failure
    except ValueError as failure:
        raise InvalidArgumentError(f"{printable(path)} is not a path: {failure}") from failure
