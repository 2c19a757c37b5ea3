"""The documents of one image, each read once, and no more of them than an image can need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagekeep.errors import CorruptContentError
from imagekeep.oci.content import read_document
from imagekeep.oci.documents import parse_index, parse_manifest

if TYPE_CHECKING:
    from imagekeep.oci.content import ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.documents import Index, Manifest

DOCUMENTS_LIMIT: Final = 1_000
"""The most documents that are read of one image.

An image needs an index, a manifest and a config, and some levels of index more where it is unusual. A layer
may carry the media type of a manifest and is then followed, so a hostile image can ask for any number; each
one may be a request to the source.
"""

BYTES_LIMIT: Final = 32 * 1024 * 1024
"""The most bytes of documents that are read of one image: four of the largest."""


class ImageReader:
    """Reads the documents of one image through a content reader, and keeps them while that image is read.

    A document is known by its whole descriptor, not by its digest alone: inline bytes may make one descriptor
    readable where another of the same digest is not.
    """

    def __init__(self, content: ContentReader) -> None:
        self._content = content
        self._documents: dict[Descriptor, bytes] = {}
        self._manifests: dict[Descriptor, Manifest] = {}
        self._indexes: dict[Descriptor, Index] = {}
        self._bytes_left = BYTES_LIMIT

    def document(self, descriptor: Descriptor) -> bytes:
        """Return a document's verified bytes; raises as `read_document`, CorruptContentError past a limit."""
        if descriptor not in self._documents:
            if len(self._documents) >= DOCUMENTS_LIMIT:
                raise CorruptContentError(f"the image has more than {DOCUMENTS_LIMIT} documents")
            document = read_document(self._content, descriptor)
            self._bytes_left -= len(document)
            if self._bytes_left < 0:
                raise CorruptContentError(f"the image's documents have more than {BYTES_LIMIT} bytes")
            self._documents[descriptor] = document
        return self._documents[descriptor]

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """Return a decoded manifest; raises as `document` and `parse_manifest` do."""
        if descriptor not in self._manifests:
            self._manifests[descriptor] = parse_manifest(self.document(descriptor), descriptor.digest)
        return self._manifests[descriptor]

    def index(self, descriptor: Descriptor) -> Index:
        """Return a decoded index; raises as `document` and `parse_index` do."""
        if descriptor not in self._indexes:
            self._indexes[descriptor] = parse_index(self.document(descriptor), descriptor.digest)
        return self._indexes[descriptor]
