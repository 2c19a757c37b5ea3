"""Reads the documents of an image from an untrusted source, within limits for the image and for the sync.

A small index can name the same large document many times, and a small document can take seconds to decode.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, TypeVar, cast

from imagekeep.errors import CorruptContentError, ImagekeepError
from imagekeep.oci.content import read_document
from imagekeep.oci.documents import parse_index, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.oci.content import ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.documents import Index, Manifest

Decoded = TypeVar("Decoded")

DOCUMENTS_LIMIT: Final = 1_000
"""Maximum number of documents read for one image.

An image needs an index, a manifest and a config, and some levels of index more if it is unusual. A layer
may carry the media type of a manifest and is then followed, so a hostile image can ask for any number; each
one may be a request to the source.
"""

BYTES_LIMIT: Final = 32 * 1024 * 1024
"""Maximum bytes of documents read for one image: four of the largest."""

SYNC_BYTES_LIMIT: Final = 256 * 1024 * 1024
"""Maximum bytes of documents read in one sync: some 15,000 images that the store has not read before."""

SYNC_LARGE_LIMIT: Final = 4 * 8 * 1024 * 1024
"""Maximum bytes of large documents read in one sync, of which each 8 MiB can take seconds to decode."""

DECODED_KEPT: Final = 16
"""How many decoded documents the images of a sync share: they are read in the order of their targets' digests."""

LARGE_BYTES: Final = 1024 * 1024
"""Bytes from which a document is large; an image that has as many is read alone.

Decoded, a document can take thirty times its size in memory; those of real images have kilobytes.
"""


class SharedDocuments:
    """What the images of one sync may read together, and what was decoded last; safe to use from several threads.

    The bytes of every document count, also of one that was read before, because each reading takes time. What a
    document says is known by its digest, so that of many targets that name one document it is decoded once.
    """

    def __init__(self, limit: int = SYNC_BYTES_LIMIT, large_limit: int = SYNC_LARGE_LIMIT) -> None:
        self.alone = threading.Lock()
        self._limit, self._large_limit = limit, large_limit
        self._read = self._large_read = 0
        self._lock = threading.Lock()
        self._decoded: OrderedDict[tuple[object, str], object] = OrderedDict()

    def spend(self, count: int) -> None:
        """Count the bytes of a document; raises CorruptContentError once they exceed a limit."""
        with self._lock:
            self._read += count
            self._large_read += count if count > LARGE_BYTES else 0
            if self._read > self._limit:
                raise _spent("the documents", self._limit)
            if self._large_read > self._large_limit and count > LARGE_BYTES:
                raise _spent(f"the documents of more than {LARGE_BYTES} bytes", self._large_limit)

    @property
    def is_half_spent(self) -> bool:
        """Return whether the documents of this sync have taken half of a limit."""
        return 2 * self._read > self._limit or 2 * self._large_read > self._large_limit

    def decode(self, parse: Callable[[bytes, str], Decoded], document: bytes, digest: str) -> Decoded:
        """Return what `parse` makes of a document, once for those decoded last; raises as `parse` does."""
        key = (parse, digest)
        with self._lock:
            known = self._decoded.get(key)
        if known is None:
            try:
                known = parse(document, digest)
            except ImagekeepError as error:
                known = copy.copy(error)  # without the traceback, which holds the document
            with self._lock:
                self._decoded[key] = known
                if len(self._decoded) > DECODED_KEPT:
                    self._decoded.popitem(last=False)
        if isinstance(known, ImagekeepError):
            raise copy.copy(known)
        return cast("Decoded", known)


def _spent(what: str, limit: int) -> CorruptContentError:
    return CorruptContentError(f"{what} read by one sync exceed {limit} bytes; sync again to read the rest")


class ImageReader:
    """Reads the documents of one image through a content reader, and keeps them while that image is read.

    A document is known by its whole descriptor, because inline bytes may make one descriptor readable while
    another of the same digest is not; what it says is known by its digest.
    """

    def __init__(self, content: ContentReader, shared: SharedDocuments | None = None) -> None:
        self._content = content
        self._shared = shared or SharedDocuments()
        self._documents: dict[Descriptor, bytes] = {}
        self._decoded: dict[tuple[object, str], object] = {}
        self._bytes_left = BYTES_LIMIT
        self._stack = ExitStack()
        self._is_alone = False

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def document(self, descriptor: Descriptor) -> bytes:
        """Return a document's verified bytes; raises as `read_document`, CorruptContentError past a limit."""
        if descriptor not in self._documents:
            if len(self._documents) >= DOCUMENTS_LIMIT:
                raise CorruptContentError(f"the image has more than {DOCUMENTS_LIMIT} documents")
            self._shared.spend(0)
            document = read_document(self._content, descriptor)
            self._shared.spend(len(document))
            self._bytes_left -= len(document)
            if self._bytes_left < 0:
                raise CorruptContentError(f"the image's documents have more than {BYTES_LIMIT} bytes")
            if self._bytes_left < BYTES_LIMIT - LARGE_BYTES and not self._is_alone:
                self._stack.enter_context(self._shared.alone)
                self._is_alone = True
            self._documents[descriptor] = document
        return self._documents[descriptor]

    @property
    def has_room(self) -> bool:
        """Return whether documents can be read that the image does not need.

        They may take half of what the sync may read, so that the other images of the sync can still be read.
        """
        return (
            len(self._documents) < DOCUMENTS_LIMIT and self._bytes_left > 0 and not self._shared.is_half_spent
        )

    def holds(self, descriptor: Descriptor) -> bool:
        """Return whether the document was read before."""
        return descriptor in self._documents

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether the document can be read."""
        try:
            self.document(descriptor)
        except ImagekeepError:
            return False
        return True

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """Return a decoded manifest; raises as `document` and `parse_manifest` do."""
        return self.decode(parse_manifest, descriptor)

    def index(self, descriptor: Descriptor) -> Index:
        """Return a decoded index; raises as `document` and `parse_index` do."""
        return self.decode(parse_index, descriptor)

    def decode(self, parse: Callable[[bytes, str], Decoded], descriptor: Descriptor) -> Decoded:
        """Return what `parse` makes of a document, once; raises as `document` and `parse` do."""
        document = self.document(descriptor)
        key = (parse, descriptor.digest)
        if key not in self._decoded:
            self._decoded[key] = self._shared.decode(parse, document, descriptor.digest)
        return cast("Decoded", self._decoded[key])
