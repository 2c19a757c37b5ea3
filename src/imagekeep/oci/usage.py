"""How many bytes an image has, compressed (containerd: core/images/usage, CalculateImageUsage)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagekeep.errors import ContentNotFoundError, printable
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES
from imagekeep.oci.manifest_selection import best_entry

if TYPE_CHECKING:
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.reader import ImageReader
    from imagekeep.platform import PlatformMatcher

_FOLLOWED: Final = MANIFEST_TYPES | INDEX_TYPES
"""The media types of documents that are read; all others are of blobs, which are counted as they are."""


def compressed_size(target: Descriptor, reader: ImageReader, matcher: PlatformMatcher) -> int:
    """Return the sum of the sizes that descriptors say, from the target down; it wraps at 64 bits as in Go.

    It is what Go computes with a limit of one manifest for each index and sizes from manifests alone: an
    index counts with its best entry, whether that matches the platform or not; a manifest with its config
    and every occurrence of a layer, and what has the media type of a manifest or index is followed wherever
    it stands. Negative sizes are left out. Blobs without children are not looked at.

    Raises as `choose_manifest` does.

    Go visits a document each time that it occurs, which a hostile image makes endless. Here each one is
    summed once, from the leaves up; the sum is the same. No document can hold itself: its digest would be
    within.
    """
    sums: dict[Descriptor, int] = {}
    waiting = [target]
    while waiting:
        descriptor = waiting[-1]
        children = () if descriptor in sums else _children(descriptor, reader, matcher)
        followed = [child for child in children if child.media_type in _FOLLOWED]
        if missing := [child for child in followed if child not in sums]:
            waiting.extend(dict.fromkeys(reversed(missing)))
            continue
        waiting.pop()
        if descriptor not in sums:
            sizes = [child.size for child in children if child.media_type not in _FOLLOWED]
            own = sum(size for size in (descriptor.size, *sizes) if size > 0)
            sums[descriptor] = _int64(own + sum(sums[child] for child in followed))
    return sums[target]


def _children(
    descriptor: Descriptor, reader: ImageReader, matcher: PlatformMatcher
) -> tuple[Descriptor, ...]:
    """Return what a descriptor's document points at, one entry at most of an index."""
    if descriptor.media_type in MANIFEST_TYPES:
        manifest = reader.manifest(descriptor)
        return (manifest.config, *manifest.layers)
    if descriptor.media_type in INDEX_TYPES:
        best = best_entry(reader.index(descriptor).manifests, matcher)
        if best is None:
            raise ContentNotFoundError(f"no match for the platform in {printable(descriptor.digest)}")
        return (best,)
    return ()


def _int64(number: int) -> int:
    """Return a number as Go's int64 holds it after overflowing."""
    return (number + 2**63) % 2**64 - 2**63
