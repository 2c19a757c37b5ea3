"""What the reading of documents needs of a source, and the one place where its bytes are verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from imagekeep.digest import digest_of, split, verify
from imagekeep.errors import CorruptContentError

if TYPE_CHECKING:
    from imagekeep.oci.descriptor import Descriptor

DOCUMENT_LIMIT: Final = 8 * 1024 * 1024
"""The most bytes that one document may have.

Real manifests, indexes and configs have kilobytes, and a registry need not take a manifest above 4 MiB. The
limit holds whatever size the descriptor says, and keeps a hostile image from filling the memory of who
looks at it.
"""


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """What a source knows of a blob without reading it: its digest, and its size in bytes."""

    digest: str
    size: int


@runtime_checkable
class ContentReader(Protocol):
    """Gives blobs by digest; the counterpart of containerd's content.InfoReaderProvider."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return the blob that `descriptor` names, at most the document cap; the caller verifies it.

        Raises ContentNotFoundError where there is no such blob, InvalidDigestError where the digest is
        none, CorruptContentError where the blob is larger than the cap, SourceUnavailableError.
        """
        ...

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob without reading it; raises as `read` does."""
        ...


def read_document(content: ContentReader, descriptor: Descriptor) -> bytes:
    """Return the document that a descriptor names: at most DOCUMENT_LIMIT bytes, which have its digest.

    The descriptor's own inline bytes are taken where they have its size and its digest, and the content is
    asked otherwise (containerd: core/content, ReadBlob). A size that differs from the blob's is ignored, as
    in Go.

    Raises InvalidDigestError where the descriptor's digest is none, CorruptContentError where the bytes have
    another digest or are too many, and what `content.read` raises.
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
    """Return whether a descriptor carries the very bytes that it names; raises InvalidDigestError."""
    algorithm, _ = split(descriptor.digest)
    inline = descriptor.data
    return len(inline) == descriptor.size and digest_of(inline, algorithm) == descriptor.digest
