"""The records of a listing by name and by image id; ids are remembered, so that listing again reads nothing.

A target's digest fixes the documents below it: once read, its image id for a platform never changes. What
could not be read is asked again each time, because a layout may be still on its way.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest
from imagekeep.errors import (
    ContentNotFoundError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidDocumentError,
    printable,
)
from imagekeep.image import ImageRecord
from imagekeep.oci.manifest_selection import choose_manifest
from imagekeep.oci.reader import ImageReader
from imagekeep.sources.listing import merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.oci.content import ContentInfo, ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import PlatformMatcher
    from imagekeep.sources.listing import Listing


class Records:
    """Answers `get` and `references` from a listing, adding each image's id as a reference of it.

    Safe to call from several threads: names are answered at once, ids by one thread at a time.
    """

    def __init__(self, content: ContentReader, matcher: PlatformMatcher) -> None:
        self._content = content
        self._matcher = matcher
        self._lock = threading.Lock()
        self._ids: dict[Descriptor, str | None] = {}
        self._told: Mapping[str, str] = {}
        self._resolved: _Resolved | None = None

    def remember(self, ids: Mapping[str, str]) -> None:
        """Take image ids by the digest of their target, as a store that read them before knows them."""
        with self._lock:
            self._told = dict(ids)

    def get(self, listing: Listing, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError only where no entry can have it: for an id, while some entry's documents
        cannot be read, that entry's error is raised instead, so that nobody takes the image for gone.
        """
        if record := listing.named.get(reference):
            return record
        if not is_digest(reference):
            raise _not_found(reference)
        with self._lock:
            known = self._resolved
            if known and known.listing is listing and (record := known.by_id.get(reference)):
                return record
            resolved, failure = self._resolve(listing)
            if record := resolved.by_id.get(reference):
                return record
        raise failure or _not_found(reference)

    def all(self, listing: Listing) -> list[ImageRecord]:
        """Return every record: those by name, and those by the ids that could be found."""
        with self._lock:
            resolved, _ = self._resolve(listing)
            return [*listing.named.values(), *resolved.by_id.values()]

    def _resolve(self, listing: Listing) -> tuple[_Resolved, ImagekeepError | None]:
        """Return the ids of a listing's targets, reading only what is not known yet, and the first failure.

        Failures are not kept: their tracebacks would hold the documents.
        """
        known = self._resolved
        if known and known.listing is listing and known.complete:
            return known, None
        if known is None or known.listing is not listing:
            wanted = {target for target, _ in listing.targets}
            self._ids = {target: image_id for target, image_id in self._ids.items() if target in wanted}
        self._resolved = resolved = _Resolved(listing)
        first: ImagekeepError | None = None
        for target, labels in listing.targets:
            try:
                image_id = self._identify(target)
            except ImagekeepError as failure:
                first = first or failure
                continue
            if image_id:
                resolved.add(ImageRecord(image_id, target, labels))
        resolved.complete = first is None
        return resolved, first

    def _identify(self, target: Descriptor) -> str | None:
        """Return the image id of a target, or None where it certainly has none for the platform.

        Raises where the answer may still come: a blob is missing, unreadable, or not what its name says.
        """
        if target.digest in self._told:
            return self._told[target.digest]
        if target not in self._ids:
            noting = _MissingNoted(self._content)
            try:
                config = choose_manifest(target, ImageReader(noting), self._matcher).config
                self._ids[target] = config.digest if is_digest(config.digest) else None
            except (InvalidArgumentError, InvalidDocumentError):
                self._ids[target] = None
            except ContentNotFoundError:
                if noting.missing:
                    raise
                self._ids[target] = None
        return self._ids[target]


@dataclass(slots=True)
class _Resolved:
    """What is known of one listing's targets; complete where each has an id, or certainly none."""

    listing: Listing
    by_id: dict[str, ImageRecord] = field(default_factory=dict)
    complete: bool = False

    def add(self, record: ImageRecord) -> None:
        """Note the record of an id; of two targets with one image the later has the id, as with any name."""
        self.by_id[record.reference] = merged(self.by_id.get(record.reference), record)


class _MissingNoted:
    """A content reader that notes whether a blob was missing.

    The same error says that an index has no entry for the platform, which is no failure but an answer.
    """

    def __init__(self, content: ContentReader) -> None:
        self._content = content
        self.missing = False

    def read(self, descriptor: Descriptor) -> bytes:
        """Read as the content reader beneath does."""
        try:
            return self._content.read(descriptor)
        except ContentNotFoundError:
            self.missing = True
            raise

    def info(self, digest: str) -> ContentInfo:
        """Answer as the content reader beneath does."""
        return self._content.info(digest)


def _not_found(reference: str) -> ImageNotFoundError:
    return ImageNotFoundError(f"no image is named {printable(reference)}")
