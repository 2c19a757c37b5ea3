"""Manifests and indexes, decoded as containerd decodes them (image-spec v1.1.1; containerd: core/images)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from imagekeep.errors import InvalidDocumentError
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.gojson import (
    Node,
    Reason,
    any_value,
    binary,
    decode,
    int64,
    list_of,
    map_of,
    optional,
    parse,
    struct,
    text,
)
from imagekeep.platform import Platform

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
"""The media types that containerd reads as a manifest, matched exactly (core/images: IsManifestType)."""

INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
"""The media types that containerd reads as an index, matched exactly (core/images: IsIndexType)."""

REFERENCE_TYPE: Final = "vnd.docker.reference.type"
"""BuildKit's annotation for the purpose of an index's entry that is not an image."""

ENTRIES_LIMIT: Final = 100_000
"""Maximum number of entries in a manifest or index.

The largest document holds fewer if each entry has a digest and a size; without them it could hold millions.
"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest points at: the config document, and the layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """What an index points at: manifests, or further indexes, in the order of the document."""

    manifests: tuple[Descriptor, ...]


def parse_manifest(document: bytes, name: str) -> Manifest:
    """Decode a manifest (core/images: Manifest, validateMediaType).

    `name` is what errors call the document: its digest, or a file's name. Raises InvalidDocumentError if
    it is not a manifest, or its media type or fields are those of another kind of document.
    """
    root = parse(document, name)
    marks = decode(_MARKS, root, name)
    _reject_schema_1(marks, name)
    if "manifests" in marks or marks.get("mediaType") in INDEX_TYPES:
        raise InvalidDocumentError(name, Reason.MEDIA_TYPE, "an index where a manifest belongs")
    fields = decode(_MANIFEST, root, name)
    return Manifest(_descriptor(fields.get("config", {})), _descriptors(fields.get("layers")))


def parse_index(document: bytes, name: str) -> Index:
    """Decode an index, or a Docker manifest list (core/images: Manifest, validateMediaType).

    `name` is what errors call the document: its digest, or a file's name. Raises InvalidDocumentError if
    it is not an index, or its media type or fields are those of another kind of document.
    """
    root = parse(document, name)
    marks = decode(_MARKS, root, name)
    _reject_schema_1(marks, name)
    if "config" in marks or "layers" in marks or marks.get("mediaType") in MANIFEST_TYPES:
        raise InvalidDocumentError(name, Reason.MEDIA_TYPE, "a manifest where an index belongs")
    return Index(_descriptors(decode(_INDEX, root, name).get("manifests")))


def parse_config_platform(document: bytes, name: str) -> Platform:
    """Decode only the platform of a config document, as it stands there (core/images: ConfigPlatform).

    Other fields are ignored, so a config may pass here and still be rejected by `parse_config`.
    Raises InvalidDocumentError.
    """
    return platform_of(decode(_PLATFORM, parse(document, name), name))


def _reject_schema_1(marks: dict[str, Any], name: str) -> None:
    """Reject Docker's manifest schema 1, recognized by its `fsLayers`."""
    if "fsLayers" in marks:
        raise InvalidDocumentError(name, Reason.MEDIA_TYPE, "a manifest of Docker's schema 1")


_ANNOTATIONS: Final = map_of(text)

_PLATFORM: Final = struct(
    {
        "architecture": text,
        "os": text,
        "os.version": text,
        "os.features": list_of(text),
        "variant": text,
    }
)
_DESCRIPTOR: Final = struct(
    {
        "mediaType": text,
        "digest": text,
        "size": int64,
        "urls": list_of(text),
        "annotations": _ANNOTATIONS,
        "data": binary,
        "platform": optional(_PLATFORM),
        "artifactType": text,
    }
)
_MANIFEST: Final = struct(
    {
        "schemaVersion": int64,
        "mediaType": text,
        "artifactType": text,
        "config": _DESCRIPTOR,
        "layers": list_of(_DESCRIPTOR, ENTRIES_LIMIT),
        "subject": optional(_DESCRIPTOR),
        "annotations": _ANNOTATIONS,
    }
)
_INDEX: Final = struct(
    {
        "schemaVersion": int64,
        "mediaType": text,
        "artifactType": text,
        "manifests": list_of(_DESCRIPTOR, ENTRIES_LIMIT),
        "subject": optional(_DESCRIPTOR),
        "annotations": _ANNOTATIONS,
    }
)
_MARKS: Final = struct(
    {
        "mediaType": text,
        "config": any_value,
        "layers": any_value,
        "manifests": any_value,
        "fsLayers": any_value,
    }
)
"""Keys whose presence, even with null, shows the kind of document whatever its media type says."""


def _descriptors(taken: list[Node] | None) -> tuple[Descriptor, ...]:
    """Return the descriptors of a list, which may be Go's nil."""
    return tuple(map(_descriptor, taken or ()))


def _descriptor(fields: dict[str, Any]) -> Descriptor:
    """Return a descriptor with Go's zero values for the fields that it lacks."""
    platform = fields.get("platform")
    return Descriptor(
        fields.get("mediaType", ""),
        fields.get("digest", ""),
        fields.get("size", 0),
        fields.get("data", b""),
        None if platform is None else platform_of(platform),
        (fields.get("annotations") or {}).get(REFERENCE_TYPE, ""),
    )


def platform_of(fields: dict[str, Any]) -> Platform:
    """Return the platform in decoded fields, with Go's zero values for the fields that it lacks."""
    return Platform(
        os=fields.get("os", ""),
        architecture=fields.get("architecture", ""),
        variant=fields.get("variant", ""),
        os_version=fields.get("os.version", ""),
        os_features=tuple(fields.get("os.features") or ()),
    )
