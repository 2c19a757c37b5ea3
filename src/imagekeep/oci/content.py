"""What the reading of documents needs of a source, and the one place where its bytes are verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from imagekeep.oci.descriptor import Descriptor


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
