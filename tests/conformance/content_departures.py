"""Where containerd's answers about partial content mislead, and ours differ (docs/containerd.md)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest
from imagekeep.errors import ImagekeepError
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES, parse_config_platform
from imagekeep.oci.target import ATTESTATION

if TYPE_CHECKING:
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image_reader import ImageReader
    from imagekeep.platform import Platform
    from tests.conformance.content import Tree

CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
"""Media types whose platform containerd reads (core/images: IsConfigType)."""


class PlatformsDeparture(enum.StrEnum):
    """How our list of a target's platforms departs from `images.Platforms`."""

    TARGET = "the platform of a target's descriptor does not hide what is beneath it"
    NESTED = "the platform of a nested index does not hide its entries"
    ONCE = "a nested index that occurs again is listed once"
    REST = "an absent or broken document leaves the other platforms in the list"
    CONFIG_TYPE = "a config has a platform whatever its media type"
    LAYER = "a layer is not followed, whatever its media type"
    NO_SYSTEM = "a platform without a system does not become the host's"
    CONFIG = "a config that a reference or an index points at is a blob, and has no platform"
    INVALID = "an entry with an invalid digest is left out"
    ATTESTATION = "an attestation is told by its annotation, or by an unknown platform in any spelling"


def departure_of_platforms(tree: Tree) -> PlatformsDeparture | None:
    """Name the first departure that a tree meets, or None if our list must be containerd's."""
    if tree.target.platform is not None:
        return PlatformsDeparture.TARGET
    reader, waiting, seen = tree.reader, [tree.target], set[str]()
    while waiting:
        node = waiting.pop()
        try:
            found = (
                _at_blob(node)
                or _at_index(node, seen)
                or _at_manifest(node, reader)
                or _at_platform(node.platform, node)
            )
            below = reader.index(node).manifests if node.media_type in INDEX_TYPES else ()
        except ImagekeepError:
            return PlatformsDeparture.REST
        if found:
            return found
        waiting.extend(reversed(below))
    return None


def _at_blob(node: Descriptor) -> PlatformsDeparture | None:
    if not is_digest(node.digest):
        return PlatformsDeparture.INVALID
    return PlatformsDeparture.CONFIG if node.media_type in CONFIG_TYPES and node.platform is None else None


def _at_index(node: Descriptor, seen: set[str]) -> PlatformsDeparture | None:
    if node.media_type not in INDEX_TYPES:
        return None
    if node.platform is not None:
        return PlatformsDeparture.NESTED
    if node.digest in seen:
        return PlatformsDeparture.ONCE
    seen.add(node.digest)
    return None


def _at_manifest(node: Descriptor, reader: ImageReader) -> PlatformsDeparture | None:
    """Return the departure at a manifest that has to be read for its platform."""
    if node.media_type not in MANIFEST_TYPES or node.platform is not None:
        return None
    manifest = reader.manifest(node)
    if any(layer.media_type in MANIFEST_TYPES | INDEX_TYPES for layer in manifest.layers):
        return PlatformsDeparture.LAYER
    if manifest.config.media_type not in CONFIG_TYPES:
        return PlatformsDeparture.CONFIG_TYPE
    return _at_platform(reader.decode(parse_config_platform, manifest.config), node)


def _at_platform(platform: Platform | None, node: Descriptor) -> PlatformsDeparture | None:
    if platform is None:
        return None
    if not platform.os:
        return PlatformsDeparture.NO_SYSTEM
    exact = node.platform is not None and "unknown" in (platform.os, platform.architecture)
    ours = node.reference_type == ATTESTATION or "unknown" in (
        platform.os.lower(),
        platform.architecture.lower(),
    )
    return PlatformsDeparture.ATTESTATION if ours != exact else None


class StateDeparture(enum.StrEnum):
    """How our state of a manifest departs from `images.Check`."""

    INVALID = "a layer with an invalid digest makes a manifest partial, not unknown"
    BROKEN = "a manifest that cannot be read is partial, not an error"
    INLINE = "a manifest carried inline is absent as long as its blob is"


def departure_of_state(tree: Tree, manifest: Descriptor) -> StateDeparture | None:
    """Name the departure that a manifest meets, or None if its state must be containerd's."""
    if manifest.digest not in tree.present:
        return StateDeparture.INLINE
    facts = tree.facts.manifests.get(manifest.digest)
    if facts is None:
        return StateDeparture.BROKEN
    return StateDeparture.INVALID if facts.compressed_size is None else None
