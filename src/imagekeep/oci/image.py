"""Reads the image of a target for one platform (containerd: internal/cri/store/image).

::

    target ──> index ──> manifest ──> config     `choose_manifest`, then the ids of `ImageFacts`
                   └──────────┴──> layers        `compressed_size`

`imagekeep.oci.image_reader` has the limits.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from imagekeep.digest import digest_of
from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    ImagekeepError,
    InvalidDigestError,
    InvalidDocumentError,
    Stage,
    printable,
)
from imagekeep.oci.config import parse_root_filesystem
from imagekeep.oci.documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    parse_config_platform,
)
from imagekeep.oci.image_reader import ImageReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from imagekeep.oci.content import ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.documents import Manifest
    from imagekeep.oci.image_reader import SharedDocuments
    from imagekeep.platform import PlatformMatcher

PLATFORMS_NAMED: Final = 10
"""How many platforms an error lists."""

DOCUMENT_ERRORS: Final = (
    ContentNotFoundError,
    CorruptContentError,
    InvalidDigestError,
    InvalidDocumentError,
)
"""Errors that concern one image's documents, not the source as a whole."""

_DOCUMENT_TYPES: Final = MANIFEST_TYPES | INDEX_TYPES
"""Media types that are followed; all others count as blobs, by their size."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image on a platform.

    `id` is the digest of `config_json`, the config document byte for byte; `chain_id` is empty for an image
    without layers; `size` counts compressed bytes, and wraps at 64 bits as in Go; `manifest_digest` is the
    manifest chosen beneath the target.
    """

    id: str
    chain_id: str
    size: int
    config_json: bytes = field(repr=False)
    manifest_digest: str | None = None


def read_image(
    target: Descriptor,
    content: ContentReader,
    matcher: PlatformMatcher,
    shared: SharedDocuments | None = None,
) -> ImageFacts:
    """Read the image of a target on a platform (containerd: getImage, once it has the record).

    Images read with the same `shared` share its limits. Raises ContentNotFoundError, InvalidDigestError,
    InvalidDocumentError, CorruptContentError and what the content raises. The error's `stage` says whether
    the layers' ids or the size was being read.
    """
    with ImageReader(content, shared) as reader:
        return _read_image(target, reader, matcher)


def image_or_error(
    target: Descriptor, reader: ImageReader, matcher: PlatformMatcher
) -> ImageFacts | ImagekeepError:
    """Return the image of a target on a platform, or the error, of DOCUMENT_ERRORS, that prevented reading it."""
    try:
        return _read_image(target, reader, matcher)
    except DOCUMENT_ERRORS as error:
        return copy.copy(error)  # without the traceback, which holds the documents


def _read_image(target: Descriptor, reader: ImageReader, matcher: PlatformMatcher) -> ImageFacts:
    with _at(Stage.DIFF_IDS):
        chosen = choose_manifest(target, reader, matcher)
        config = reader.manifest(chosen).config
        config_json = reader.document(config)
        diff_ids = reader.decode(parse_root_filesystem, config).diff_ids
    with _at(Stage.SIZE):
        size = compressed_size(target, reader, matcher)
    return ImageFacts(config.digest, chain_id(diff_ids), size, config_json, chosen.digest)


@contextmanager
def _at(stage: Stage) -> Iterator[None]:
    """Set the stage of an error raised within."""
    try:
        yield
    except ImagekeepError as error:
        error.stage = stage
        raise


def choose_manifest(target: Descriptor, reader: ImageReader, matcher: PlatformMatcher) -> Descriptor:
    """Return the descriptor of the manifest of a target on a platform (containerd: core/images, Manifest).

    A manifest is returned whatever its platform. Of an index only the best entry is followed, level by level and
    without a second try; a manifest whose entry has no platform is matched by its config document.

    Raises ContentNotFoundError if nothing fits or a blob is missing, and InvalidDocumentError,
    InvalidDigestError and CorruptContentError for the documents on the way.
    """
    descriptor: Descriptor | None = target
    entries: tuple[Descriptor, ...] = ()
    while descriptor and descriptor.media_type in INDEX_TYPES:
        entries = reader.index(descriptor).manifests
        descriptor = best_entry((entry for entry in entries if _may_fit(entry, matcher)), matcher)
    if descriptor and descriptor.media_type not in MANIFEST_TYPES:
        media_type = printable(descriptor.media_type)
        raise ContentNotFoundError(f"unexpected media type {media_type} for {printable(descriptor.digest)}")
    if descriptor:
        manifest = _chosen(descriptor, entries, reader, matcher)
        if descriptor is target or _fits(descriptor, manifest, reader, matcher):
            return descriptor
    raise _no_match(target, entries, reader, matcher)


def best_entry(entries: Iterable[Descriptor], matcher: PlatformMatcher) -> Descriptor | None:
    """Return the entry of an index that comes first in the matcher's order, or None if there is none.

    Entries without a platform come after all others; of equal ones the first in the document counts.
    """
    return min(entries, key=partial(preference, matcher), default=None)


def preference(matcher: PlatformMatcher, entry: Descriptor) -> tuple[int, ...]:
    """Return a key that orders the entries of an index, best first."""
    return (0, *matcher.sort_key(entry.platform)) if entry.platform is not None else (1,)


def _may_fit(entry: Descriptor, matcher: PlatformMatcher) -> bool:
    """Return whether an entry's platform matches, or is still to be seen."""
    return entry.platform is None or matcher.matches(entry.platform)


def _chosen(
    descriptor: Descriptor, entries: Sequence[Descriptor], reader: ImageReader, matcher: PlatformMatcher
) -> Manifest:
    """Return the chosen manifest; if it is missing, the error says what else its index offers."""
    try:
        return reader.manifest(descriptor)
    except ContentNotFoundError as failure:
        if not entries:
            raise
        raise ContentNotFoundError(f"{failure}; {_offer(entries, reader, matcher)}") from failure


def _fits(entry: Descriptor, manifest: Manifest, reader: ImageReader, matcher: PlatformMatcher) -> bool:
    """Return whether an index's chosen entry matches: by its config document if it says no platform."""
    if entry.platform is not None:
        return True
    return matcher.matches(reader.decode(parse_config_platform, manifest.config))


def _no_match(
    target: Descriptor, entries: Sequence[Descriptor], reader: ImageReader, matcher: PlatformMatcher
) -> ContentNotFoundError:
    return ContentNotFoundError(
        f"no match for the platform in {printable(target.digest)}: {_offer(entries, reader, matcher)}"
    )


def _offer(entries: Sequence[Descriptor], reader: ImageReader, matcher: PlatformMatcher) -> str:
    """Return which platform is wanted, and which of an index's are present or absent.

    Attestations, whose platform is unknown, are left out.
    """
    wanted = matcher.accepted[0].format_all() if matcher.accepted else "an unknown platform"
    offered = {
        entry.platform.format_all(): entry
        for entry in reversed(entries)
        if entry.platform and entry.platform.os != "unknown"
    }
    names = list(reversed(offered))[:PLATFORMS_NAMED]
    present = [name for name in names if reader.has(offered[name])]
    parts = [f"wanted {wanted}", f"present {_listed(present)}"]
    if absent := [name for name in names if name not in present]:
        parts.append(f"absent {_listed(absent)}")
    if len(offered) > len(names):
        parts.append(f"{len(offered) - len(names)} more not looked for")
    return f"{'; '.join(parts)} (choose with --platform)"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names)) or "none"


def compressed_size(target: Descriptor, reader: ImageReader, matcher: PlatformMatcher) -> int:
    """Return the sum of the sizes in descriptors, from the target down; it wraps at 64 bits as in Go.

    It is what Go computes (containerd: core/images/usage, CalculateImageUsage) with a limit of one manifest for
    each index and sizes from manifests alone: an index counts with its best entry, whether that matches the
    platform or not; a manifest with its config and every occurrence of a layer, and what has the media type of a
    manifest or index is followed wherever it occurs. Negative sizes are left out. Blobs without children are not
    read.

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
        followed = [child for child in children if child.media_type in _DOCUMENT_TYPES]
        if missing := [child for child in followed if child not in sums]:
            waiting.extend(dict.fromkeys(reversed(missing)))
            continue
        waiting.pop()
        if descriptor not in sums:
            sizes = [child.size for child in children if child.media_type not in _DOCUMENT_TYPES]
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
        entries = reader.index(descriptor).manifests
        best = best_entry(entries, matcher)
        if best is None:
            raise _no_match(descriptor, entries, reader, matcher)
        return (best,)
    return ()


def _int64(number: int) -> int:
    """Return a number as Go's int64 holds it after overflowing."""
    return (number + 2**63) % 2**64 - 2**63


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain id of each layer upon those below it, lowest first (Go: identity.ChainIDs).

    The first is the first diff id itself: diff ids are not validated.
    """
    return list(accumulate(diff_ids, chain_upon))


@lru_cache(maxsize=4_096)  # images share their base layers; an entry has some 300 bytes
def chain_upon(below: str, diff_id: str) -> str:
    """Return the chain id of a layer upon the chain id of those below it."""
    return digest_of(f"{below} {diff_id}".encode())


def chain_id(diff_ids: Sequence[str]) -> str:
    """Return the chain id of all the layers together, empty if there are none (Go: identity.ChainID)."""
    return chain_ids(diff_ids)[-1] if diff_ids else ""
