"""Which manifest of an image is the one for a platform (containerd: core/images, Manifest)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from imagekeep.errors import ContentNotFoundError, printable
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES, parse_config_platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.documents import Manifest
    from imagekeep.oci.reader import ImageReader
    from imagekeep.platform import PlatformMatcher


def choose_manifest(target: Descriptor, reader: ImageReader, matcher: PlatformMatcher) -> Manifest:
    """Return the manifest that a target stands for on a platform.

    A target that is a manifest is taken whatever its platform. Of an index only the best entry is followed,
    with no second try, level by level; a manifest whose entry says no platform is judged by its config
    document.

    Raises ContentNotFoundError where nothing fits or a blob is missing, and InvalidDocumentError,
    InvalidDigestError and CorruptContentError for the documents on the way.
    """
    descriptor: Descriptor | None = target
    while descriptor and descriptor.media_type in INDEX_TYPES:
        entries = reader.index(descriptor).manifests
        descriptor = best_entry((entry for entry in entries if _may_fit(entry, matcher)), matcher)
    if descriptor and descriptor.media_type not in MANIFEST_TYPES:
        media_type = printable(descriptor.media_type)
        raise ContentNotFoundError(f"unexpected media type {media_type} for {printable(descriptor.digest)}")
    if descriptor:
        manifest = reader.manifest(descriptor)
        if descriptor is target or _fits(descriptor, manifest, reader, matcher):
            return manifest
    raise ContentNotFoundError(f"no match for the platform in {printable(target.digest)}")


def best_entry(entries: Iterable[Descriptor], matcher: PlatformMatcher) -> Descriptor | None:
    """Return the entry of an index that comes first in the matcher's order, or None where there is none.

    Entries without a platform come after all others; of equal ones the first in the document counts.
    """
    return min(entries, key=partial(_rank, matcher), default=None)


def _rank(matcher: PlatformMatcher, entry: Descriptor) -> tuple[int, ...]:
    """Return a key that orders the entries of an index, best first."""
    return (0, *matcher.sort_key(entry.platform)) if entry.platform is not None else (1,)


def _may_fit(entry: Descriptor, matcher: PlatformMatcher) -> bool:
    """Return whether an entry's platform matches, or is still to be seen."""
    return entry.platform is None or matcher.matches(entry.platform)


def _fits(entry: Descriptor, manifest: Manifest, reader: ImageReader, matcher: PlatformMatcher) -> bool:
    """Return whether an index's chosen entry matches: by its config document where it says no platform."""
    if entry.platform is not None:
        return True
    config = manifest.config
    return matcher.matches(parse_config_platform(reader.document(config), config.digest))
