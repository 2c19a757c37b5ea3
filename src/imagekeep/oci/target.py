"""Reads everything beneath a target: every platform's manifest, config and layers.

::

    target ──> index ──> index ──> …
                  └────> manifest ──> config ──> diff ids ──> chain ids
                              └─────> layers

`read_image` (imagekeep.oci.image) follows the path of one platform and fails as containerd does. This module reads
the whole tree and never fails: what cannot be read, or exceeds a limit, is missing from the result. A digest fixes
everything beneath it, so the result changes only if more or less of it can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from imagekeep.digest import is_digest
from imagekeep.errors import ContentNotFoundError, ImagekeepError
from imagekeep.oci.config import parse_root_filesystem
from imagekeep.oci.documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    parse_config_platform,
    parse_index,
    parse_manifest,
)
from imagekeep.oci.image import DOCUMENT_ERRORS, chain_ids
from imagekeep.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.documents import Manifest
    from imagekeep.oci.image_reader import ImageReader

Decoded = TypeVar("Decoded")

SIZE_LIMIT: Final = 2**40
"""Largest believable size of a blob in bytes. The sum of as many as a target may have fits in 63 bits."""

PARTS_LIMIT: Final = 250_000
"""Maximum number of entries, layers and diff ids beneath one target.

An index and a manifest may have 100,000 each; a hostile index names many such, and those past the limit are left
out.
"""

TRIES_LIMIT: Final = 2_000
"""Maximum number of documents to look for beneath one target; each may be a request to the source."""

ATTESTATION: Final = "attestation-manifest"
"""What BuildKit's annotation says of an attestation."""

_ANY_HOST: Final = Platform("", "")
"""Leaves an empty operating system empty: what a digest fixes must not depend on the host."""


class TargetEntry(NamedTuple):
    """An entry of an index beneath a target, or the target itself if it is a manifest.

    `position` counts the entries depth first, from 0; an entry with an invalid digest is left out and leaves a gap.
    The entries of a nested index come after it where it first occurs. `platform` is the entry's own, else that of
    the manifest's config, normalized and formatted with its version and features; None if neither is known.
    """

    position: int
    media_type: str
    digest: str
    platform: str | None
    is_attestation: bool


class BlobFacts(NamedTuple):
    """The media type and size in bytes of a blob, as its first descriptor states them.

    An empty media type and a size that is not believable are None. A document that was read has its true size.
    """

    media_type: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What a manifest holds: the digests of its config and of every occurrence of a layer, lowest first.

    A layer is None if its digest is invalid: no source can have it.

    `diff_ids` and `chain_ids` have one for each layer; both are empty if the config cannot be read, names another
    number of layers, or states an invalid diff id. `compressed_size` adds up the manifest, the config, and every
    occurrence of a layer; it is None if the digest of one is invalid.
    """

    config: str
    layers: tuple[str | None, ...]
    diff_ids: tuple[str, ...]
    chain_ids: tuple[str, ...]
    compressed_size: int | None


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a target is made of, as far as its documents can be read.

    `blobs` has the target and every index, manifest, config and layer beneath it, by digest. `documents` has those
    that were read, byte for byte, `absent` those that the source does not have, and `inline` those that a
    descriptor carried, so that the source need not have them. `present` has the blobs that the source has; None if
    this is known only of documents. A manifest that was read but is not in `manifests` is broken: it is no
    manifest, or has no valid config.
    """

    target: str
    entries: tuple[TargetEntry, ...] = ()
    manifests: Mapping[str, ManifestFacts] = field(default_factory=dict)
    blobs: Mapping[str, BlobFacts] = field(default_factory=dict)
    documents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    absent: frozenset[str] = frozenset()
    inline: frozenset[str] = frozenset()
    present: frozenset[str] | None = None

    def with_present(self, present: Container[str]) -> TargetFacts:
        """Return the same facts with the blobs that the source has, which makes the presence of each one known."""
        return replace(self, present=frozenset(digest for digest in self.blobs if digest in present))

    def presence(self) -> dict[str, bool | None]:
        """Return whether the source has each blob; None if not known."""
        if self.present is not None:
            return {digest: digest in self.present for digest in self.blobs}
        return {
            digest: True if digest in self.documents and digest not in self.inline else self._lacks(digest)
            for digest in self.blobs
        }

    def _lacks(self, digest: str) -> bool | None:
        return False if digest in self.absent else None


def read_target(
    target: Descriptor, reader: ImageReader, present: Container[str] | None = None
) -> TargetFacts:
    """Read what a target is made of, each document once.

    `present` has the digests that the source is known to have, and no other is looked for. Raises nothing: what is
    absent, broken or past a limit is missing from the result.
    """
    return _Walk(reader, present).read(target)


def believable_size(size: int) -> int | None:
    """Return a stated size in bytes, or None if no blob can have it."""
    return size if 0 <= size <= SIZE_LIMIT else None


@lru_cache(maxsize=64)
def _describe(platform: Platform) -> tuple[str, bool]:
    """Return a platform's normal form, formatted, and whether it says that it is unknown."""
    normal = platform.normalize(_ANY_HOST)
    return normal.format_all(), "unknown" in (normal.os, normal.architecture)


class _Opened(NamedTuple):
    """A manifest that was read, and what its entries need of its config."""

    facts: ManifestFacts
    platform: Platform | None


class _Walk:
    """Reads one target and holds what it has found so far."""

    def __init__(self, reader: ImageReader, present: Container[str] | None) -> None:
        self._reader = reader
        self._present = present
        self._tries_left = TRIES_LIMIT
        self._parts_left = PARTS_LIMIT
        self._tried: set[str] = set()
        self._read_by: dict[str, Descriptor] = {}
        self._expanded: set[str] = set()
        self._opened: dict[str, _Opened] = {}
        self._chains: dict[str, tuple[str, ...]] = {}
        self._blobs: dict[str, BlobFacts] = {}
        self._documents: dict[str, bytes] = {}
        self._absent: set[str] = set()
        self._inline: set[str] = set()

    def read(self, target: Descriptor) -> TargetFacts:
        entries = tuple(self._entries(target)) if self._add_blob(target) else ()
        facts = TargetFacts(
            target.digest,
            entries,
            {digest: opened.facts for digest, opened in self._opened.items()},
            self._blobs,
            self._documents,
            frozenset(self._absent.difference(self._documents)),
            frozenset(self._inline),
        )
        return facts if self._present is None else facts.with_present(self._present)

    def _entries(self, target: Descriptor) -> Iterator[TargetEntry]:
        """Yield the entries beneath the target, depth first."""
        waiting = [target] if target.media_type in MANIFEST_TYPES else self._below(target)
        position = 0
        while waiting:
            descriptor = waiting.pop()
            if self._add_blob(descriptor):
                yield self._entry(position, descriptor)
                waiting.extend(self._below(descriptor))
            position += 1

    def _below(self, descriptor: Descriptor) -> list[Descriptor]:
        """Return the entries of an index, last first, the first time that it occurs."""
        if descriptor.media_type not in INDEX_TYPES or descriptor.digest in self._expanded:
            return []
        index = self._decode(parse_index, descriptor)
        if index is None or not self._spend(len(index.manifests)):
            return []
        self._expanded.add(descriptor.digest)
        return list(reversed(index.manifests))

    def _entry(self, position: int, descriptor: Descriptor) -> TargetEntry:
        opened = self._open(descriptor) if descriptor.media_type in MANIFEST_TYPES else None
        platform = descriptor.platform or (opened.platform if opened else None)
        name, is_unknown = _describe(platform) if platform else (None, False)
        return TargetEntry(
            position,
            descriptor.media_type,
            descriptor.digest,
            name,
            is_unknown or descriptor.reference_type == ATTESTATION,
        )

    def _open(self, descriptor: Descriptor) -> _Opened | None:
        """Return a manifest and its config's platform, or None if it cannot be read or is broken."""
        if descriptor.digest not in self._opened:
            manifest = self._decode(parse_manifest, descriptor)
            if manifest is None or not self._spend(len(manifest.layers)):
                return None
            if not self._add_blob(manifest.config):
                return None
            self._opened[descriptor.digest] = self._with_config(descriptor, manifest)
        return self._opened[descriptor.digest]

    def _with_config(self, descriptor: Descriptor, manifest: Manifest) -> _Opened:
        """Return what a manifest and its config say."""
        config = manifest.config
        layers = tuple([layer.digest if self._add_blob(layer) else None for layer in manifest.layers])
        rootfs = self._decode(parse_root_filesystem, config)
        diff_ids = rootfs.diff_ids if rootfs else ()
        chains = self._chain_ids(config.digest, diff_ids) if len(diff_ids) == len(layers) else ()
        sizes = [believable_size(part.size) or 0 for part in (config, *manifest.layers)]
        facts = ManifestFacts(
            config.digest,
            layers,
            diff_ids if chains else (),
            chains,
            None if None in layers else len(self._documents[descriptor.digest]) + sum(sizes),
        )
        return _Opened(facts, rootfs.platform if rootfs else self._decode(parse_config_platform, config))

    def _chain_ids(self, config: str, diff_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Return the chain ids of a config's layers, or nothing if it states an invalid diff id."""
        if config not in self._chains:
            valid = self._spend(len(diff_ids)) and all(map(is_digest, diff_ids))
            self._chains[config] = tuple(chain_ids(diff_ids)) if valid else ()
        return self._chains[config]

    def _add_blob(self, descriptor: Descriptor) -> bool:
        """Record a blob unless it is known; return whether its digest is valid."""
        digest = descriptor.digest
        if digest in self._blobs:
            return True
        if not is_digest(digest):
            return False
        self._blobs[digest] = BlobFacts(descriptor.media_type or None, believable_size(descriptor.size))
        return True

    def _spend(self, parts: int) -> bool:
        """Count parts of the target; return whether they are within the limit."""
        within = parts <= self._parts_left
        self._parts_left -= parts if within else 0
        return within

    def _decode(self, parse: Callable[[bytes, str], Decoded], descriptor: Descriptor) -> Decoded | None:
        """Return what `parse` makes of a document, or None if it cannot be read or is broken."""
        readable = self._readable(descriptor)
        if readable is None:
            return None
        try:
            return self._reader.decode(parse, readable)
        except ImagekeepError:
            return None

    def _readable(self, descriptor: Descriptor) -> Descriptor | None:
        """Return the descriptor by which a document was read, now or before; None if it could not be read."""
        digest = descriptor.digest
        if digest not in self._read_by and self._may_try(descriptor):
            try:
                document = self._reader.document(descriptor)
            except ContentNotFoundError:
                self._absent.add(digest)
            except DOCUMENT_ERRORS:
                pass
            except ImagekeepError:  # the source is not asked again
                self._tries_left = 0
            else:
                self._documents[digest] = document
                self._read_by[digest] = descriptor
                if descriptor.data == document:
                    self._inline.add(digest)
                self._blobs[digest] = self._blobs[digest]._replace(size=len(document))
        return self._read_by.get(digest)

    def _may_try(self, descriptor: Descriptor) -> bool:
        """Return whether to look for a document: once, or again if this descriptor carries it inline."""
        digest = descriptor.digest
        if self._reader.holds(descriptor):
            return True
        if not descriptor.data:
            if digest in self._tried:
                return False
            if self._present is not None and digest not in self._present:
                self._absent.add(digest)
                return False
        if self._tries_left <= 0 or not self._reader.has_room:
            return False
        self._tries_left -= 1
        self._tried.add(digest)
        return True
