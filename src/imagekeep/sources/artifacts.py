"""Tells the images in an index.json from signatures, SBOMs and other artifacts.

An artifact is recognized by its descriptor or its manifest:

- `artifactType`, unless it is the type of an image's config (image-spec, Guidelines for Artifact Usage);
- the media type of its config, or of all its layers (cosign's signatures have an image's config);
- BuildKit's annotation of an attestation, and cosign's `kind` in what `cosign save` writes.

An entry without a name is not an image either if it has a `subject`, or if the index of another entry lists it.
An index is an image if one of its entries may be one, so the fallback tags of referrers are not. Content that
cannot be read may be an image: its reader gets the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from imagekeep.errors import ContentNotFoundError, ImagekeepError
from imagekeep.oci.content import read_document
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import ENTRIES_LIMIT, INDEX_TYPES, MANIFEST_TYPES
from imagekeep.oci.gojson import any_value, decode, int64, list_of, map_of, optional, parse, struct, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imagekeep.oci.content import ContentReader

ATTACHED_TYPE: Final = "vnd.docker.reference.type"
"""The annotation of an attestation, which belongs to an image (BuildKit)."""

KIND: Final = "kind"
"""The annotation in which `cosign save` writes the kind of an entry (cosign: pkg/oci/layout)."""

DOCUMENT_LIMIT: Final = 1 << 20
"""Maximum size of a manifest that is read; an artifact's is small, and a larger one may be an image."""

LISTING_LIMIT: Final = 32 << 20
"""Maximum bytes read for one listing; the rest may be images."""

_IMAGE_TYPES: Final = MANIFEST_TYPES | INDEX_TYPES
_ARTIFACT_KINDS: Final = frozenset(
    f"dev.cosignproject.cosign/{kind}" for kind in ("sigs", "atts", "sboms", "bundles")
)
_CONFIG_TYPES: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # what Docker 1.10 wrote
)
_ARTIFACT_LAYERS: Final = (
    "application/vnd.dev.cosign.",
    "application/vnd.dev.sigstore.",
    "application/vnd.dsse.",
    "application/vnd.in-toto",
    "application/vnd.cyclonedx",
    "application/spdx",
    "text/spdx",
)
_SIGNS: Final = tuple(
    sign.encode() for sign in ('"artifactType"', '"subject"', '"manifests"', "\\u", *_ARTIFACT_LAYERS)
)
"""A manifest with an image's config and none of these is an image, and is not decoded."""

_LISTED: Final = struct(
    {
        "mediaType": text,
        "digest": text,
        "size": int64,
        "artifactType": text,
        "annotations": map_of(text),
    }
)
_DOCUMENT: Final = struct(
    {
        "artifactType": text,
        "subject": optional(any_value),
        "config": struct({"mediaType": text}),
        "layers": list_of(struct({"mediaType": text}), ENTRIES_LIMIT),
        "manifests": list_of(_LISTED, ENTRIES_LIMIT),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One descriptor of an index.json and its annotations (image-spec, image-layout, index.json file)."""

    target: Descriptor
    annotations: Mapping[str, str]
    artifact_type: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target may be an image, with a name and without one, and the digests that it lists."""

    named: bool = True
    unnamed: bool = True
    children: frozenset[str] = frozenset()
    is_final: bool = True


_UNREAD: Final = Verdict(is_final=False)
_UNLOOKED: Final = Verdict()


class ArtifactFilter:
    """Tells images from artifacts by their content; remembers the verdict on each digest."""

    def __init__(self, content: ContentReader) -> None:
        self._content = content
        self._verdicts: dict[str, Verdict] = {}
        self._left = LISTING_LIMIT

    def begin(self, entries: Iterable[Entry]) -> None:
        """Begin a listing of these entries, and forget the verdicts on others."""
        self._left = LISTING_LIMIT
        wanted = {entry.target.digest for entry in entries}
        self._verdicts = {digest: seen for digest, seen in self._verdicts.items() if digest in wanted}

    def verdict(self, entry: Entry) -> Verdict:
        """Return the verdict on an entry, by its descriptor and its document."""
        if not _may_be_image(entry):
            return Verdict(named=False, unnamed=False)
        return self._judge(entry.target)

    def _judge(self, target: Descriptor) -> Verdict:
        """Return the verdict on a target, whose document is read once in a listing unless it is missing."""
        seen = self._verdicts.get(target.digest)
        if seen is None:
            seen = self._look(target)
            if seen.is_final:
                self._verdicts[target.digest] = seen
        return seen

    def _look(self, target: Descriptor) -> Verdict:
        """Read a document and judge it."""
        try:
            size = self._content.info(target.digest).size
            if size > DOCUMENT_LIMIT or size > self._left:
                return _UNLOOKED
            self._left -= size
            document = read_document(self._content, target)
        except ContentNotFoundError:
            return _UNREAD
        except ImagekeepError:
            return _UNLOOKED
        if target.media_type in MANIFEST_TYPES and _is_plain(document):
            return _UNLOOKED
        try:
            fields = decode(_DOCUMENT, parse(document, target.digest), target.digest)
        except ImagekeepError:
            return _UNLOOKED
        return self._judge_index(fields) if target.media_type in INDEX_TYPES else _judge_manifest(fields)

    def _judge_index(self, fields: dict[str, Any]) -> Verdict:
        """Judge an index by its entries; those of a nested one are judged by their descriptors alone."""
        children = [entry_of(child) for child in fields.get("manifests") or ()]
        named = any(self._is_candidate(child) for child in children)
        own = fields.get("artifactType", "") in ("", *_CONFIG_TYPES) and not fields.get("subject")
        return Verdict(named, named and own, frozenset(child.target.digest for child in children))

    def _is_candidate(self, child: Entry) -> bool:
        """Return whether an entry of an index may be an image."""
        if not _may_be_image(child) or child.target.media_type in INDEX_TYPES:
            return _may_be_image(child)
        return self._judge(child.target).named


def entry_of(fields: dict[str, Any]) -> Entry:
    """Return an entry with the fields that were decoded of it."""
    target = Descriptor(fields.get("mediaType", ""), fields.get("digest", ""), fields.get("size", 0))
    return Entry(target, fields.get("annotations") or {}, fields.get("artifactType", ""))


def _may_be_image(entry: Entry) -> bool:
    """Return whether an entry may be an image by its descriptor alone."""
    return (
        entry.target.media_type in _IMAGE_TYPES
        and ATTACHED_TYPE not in entry.annotations
        and entry.annotations.get(KIND) not in _ARTIFACT_KINDS
        and entry.artifact_type in ("", *_CONFIG_TYPES)
    )


def _is_plain(document: bytes) -> bool:
    """Return whether a manifest is surely an image's, as most are, without the millisecond of decoding it."""
    has_config = any(config_type.encode() in document for config_type in _CONFIG_TYPES)
    return has_config and not any(sign in document for sign in _SIGNS)


def _judge_manifest(fields: dict[str, Any]) -> Verdict:
    """Judge a manifest by its types; `subject` says that it belongs to another one."""
    if "manifests" in fields:
        return _UNLOOKED  # an index by another media type: its reader gets the error
    layers = [layer.get("mediaType", "") for layer in fields.get("layers") or ()]
    is_image = (
        fields.get("artifactType", "") in ("", *_CONFIG_TYPES)
        and fields.get("config", {}).get("mediaType", "") in ("", *_CONFIG_TYPES)
        and not (layers and all(layer.startswith(_ARTIFACT_LAYERS) for layer in layers))
    )
    return Verdict(is_image, is_image and not fields.get("subject"))
