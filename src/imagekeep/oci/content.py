"""Reads documents from a source and verifies their digests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from imagekeep.digest import digest_of, split, verify
from imagekeep.errors import CorruptContentError, FailedPreconditionError

if TYPE_CHECKING:
    from imagekeep.oci.descriptor import Descriptor

DOCUMENT_LIMIT: Final = 8 * 1024 * 1024
"""Maximum size of a document in bytes.

Real manifests, indexes and configs have kilobytes, and a registry need not take a manifest above 4 MiB. The
limit holds whatever size the descriptor states, and keeps a hostile image from filling the reader's memory.
"""


BLOBS_LIMIT: Final = 500_000
"""Maximum number of blobs in a listing of all that a source has; an image has ten or so."""


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """The digest of a blob and its size in bytes, known without reading it."""

    digest: str
    size: int


@runtime_checkable
class ContentReader(Protocol):
    """Reads blobs by digest; the counterpart of containerd's content.InfoReaderProvider."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return the blob that `descriptor` names, at most the document cap; the caller verifies it.

        Raises ContentNotFoundError if there is no such blob, InvalidDigestError if the digest is invalid,
        CorruptContentError if the blob is larger than the cap, and SourceUnavailableError.
        """
        ...

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob without reading it; raises as `read` does."""
        ...


def require_few_blobs(count: int, source: str) -> None:
    """Raise FailedPreconditionError if a listing has more than BLOBS_LIMIT blobs."""
    if count > BLOBS_LIMIT:
        raise FailedPreconditionError(f"{source}: more than {BLOBS_LIMIT} blobs")


def read_document(content: ContentReader, descriptor: Descriptor) -> bytes:
    """Return the verified document that a descriptor names, of at most DOCUMENT_LIMIT bytes.

    The descriptor's inline bytes are used if they match its size and digest; otherwise the blob is read
    (containerd: core/content, ReadBlob). A size that differs from the blob's is ignored, as in Go.

    Raises InvalidDigestError if the descriptor's digest is invalid, CorruptContentError if the bytes have another
    digest or are too many, and as `content.read` does.
    """
    if _is_inline(descriptor):
        document = descriptor.data
    else:
        document = content.read(descriptor)
        verify(descriptor.digest, document)
    if len(document) > DOCUMENT_LIMIT:
        raise CorruptContentError(f"document {descriptor.digest} has more than {DOCUMENT_LIMIT} bytes")
    return document


def _is_inline(descriptor: Descriptor) -> bool:
    """Return whether a descriptor carries its blob inline; raises InvalidDigestError."""
    algorithm, _ = split(descriptor.digest)
    inline = descriptor.data
    return len(inline) == descriptor.size and digest_of(inline, algorithm) == descriptor.digest
