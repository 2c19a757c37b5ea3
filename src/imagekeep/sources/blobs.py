"""The content of one member of an archive: where it lies in a file, or what was kept as it passed by."""

from __future__ import annotations

import hashlib
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
from imagekeep.sources.directory import Signature, too_large
from imagekeep.sources.tar_input import CHUNK, MAGIC_LENGTH, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.sources.tar import Member, TarInput

HELD_LIMIT = 64 << 20
"""How many bytes of documents are held of an archive that cannot be read twice: some ten thousand images."""

_JSON_BEGINS = (b"{", b"[")
_JSON_SPACE = b" \t\r\n"


class Blob(Protocol):
    """A member's content; `size` is in bytes."""

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        ...

    def read(self) -> bytes:
        """Return the content, at most the document cap; raises CorruptContentError for more."""
        ...

    def digest(self) -> str:
        """Return the sha256 digest of the content, in one pass that holds a chunk at a time."""
        ...

    def beginning(self) -> bytes:
        """Return the first bytes, as many as tell compressions apart."""
        ...


@dataclass(frozen=True, slots=True)
class FileBlob:
    """A range of a plain archive, read in place.

    `read`, `digest` and `beginning` raise SourceUnavailableError where the file is not the one that was
    listed.
    """

    path: Path
    signature: Signature
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the content; raises CorruptContentError where it is larger than a document may be."""
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
                raise SourceUnavailableError(f"{printable(self.path)} changed while it was read; try again")
            yield descriptor


@dataclass(frozen=True, slots=True)
class HashedBlob:
    """What is known of a member that passed by in a stream, and is not held."""

    size: int
    hashed: str
    first: bytes
    name: str

    def read(self) -> bytes:
        """Raise: only what can be a document is held, and this is none."""
        if self.size > DOCUMENT_LIMIT:
            raise too_large(self.name, DOCUMENT_LIMIT)
        raise InvalidDocumentError(self.name, InvalidDocumentError.Reason.SYNTAX, "no JSON object or list")

    def digest(self) -> str:
        """Return the digest, taken as the content passed by."""
        return self.hashed

    def beginning(self) -> bytes:
        """Return the first bytes."""
        return self.first


@dataclass(frozen=True, slots=True)
class BufferedBlob:
    """A document held in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return len(self.content)

    def read(self) -> bytes:
        """Return the content."""
        return self.content

    def digest(self) -> str:
        """Return the digest of the content."""
        return digest_of(self.content)

    def beginning(self) -> bytes:
        """Return the first bytes."""
        return self.content[:MAGIC_LENGTH]


class DocumentBuffer:
    """Takes the members of a stream as they pass by: holds what may be a document, hashes the rest."""

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self._limit = limit
        self._held = 0

    def take(self, member: Member, tape: TarInput) -> Blob:
        """Return the blob of a member whose content is next; raises InvalidDocumentError past the limit."""
        first = tape.read(min(CHUNK, member.size))
        if member.size <= DOCUMENT_LIMIT and first.lstrip(_JSON_SPACE).startswith(_JSON_BEGINS):
            return self._hold(first + tape.read(member.size - len(first)), tape)
        hasher = hashlib.sha256(first)
        left = member.size - len(first)
        while left and (chunk := tape.read(min(CHUNK, left))):
            hasher.update(chunk)
            left -= len(chunk)
        name = f"{tape.name}, member {member.name}"
        return HashedBlob(member.size, f"sha256:{hasher.hexdigest()}", first[:MAGIC_LENGTH], name)

    def _hold(self, content: bytes, tape: TarInput) -> Blob:
        """Hold one document more, within the limit."""
        self._held += len(content)
        if self._held > self._limit:
            raise InvalidDocumentError(
                tape.name,
                InvalidDocumentError.Reason.SYNTAX,
                f"the archive has more than {self._limit} bytes of documents, too many to hold in memory; "
                "decompress it to a file and give that",
            )
        return BufferedBlob(content)


@contextmanager
def open_archive(path: Path) -> Iterator[int]:
    """Yield a descriptor of an archive's file, closed afterwards.

    Raises SourceUnavailableError where there is no such file, PermissionDeniedError, and InvalidArgumentError
    for a directory or a pipe, saying what to give instead.
    """
    descriptor = _open(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise InvalidArgumentError(
                f"{printable(path)} is a directory; an OCI layout is given as oci:DIRECTORY"
            )
        if not stat.S_ISREG(mode):
            raise InvalidArgumentError(
                f"{printable(path)} is no regular file; a pipe is read as standard input, archive:-"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a file for reading, without waiting for the other end where it is a pipe."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as failure:
        raise PermissionDeniedError(
            f"{printable(path)} is not readable by this user; give read permission, or run as its owner"
        ) from failure
    except OSError as failure:
        raise SourceUnavailableError(f"cannot open {printable(path)}: {failure.strerror}") from failure
    except ValueError as failure:
        raise InvalidArgumentError(f"{printable(path)} is no path: {failure}") from failure
