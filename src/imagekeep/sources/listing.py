"""What an index.json says there is: a pure function from its entries to records by name.

When two entries give the same reference, the later one has it, as the later of two imports would (containerd:
client.Import creates or updates each in turn). The earlier one is still there by its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagekeep.errors import ImageNotFoundError, InvalidDocumentError, printable
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES, parse_index
from imagekeep.oci.gojson import Reason, decode, int64, list_of, map_of, parse, struct, text
from imagekeep.sources.naming import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.reference import Reference

ATTACHED_TYPE = "vnd.docker.reference.type"
"""The annotation of a manifest that is no image but belongs to one: an attestation (BuildKit)."""

_INDEX_SCHEMA = 2
_IMAGE_TYPES = MANIFEST_TYPES | INDEX_TYPES
_ANNOTATED = struct({"schemaVersion": int64, "manifests": list_of(struct({"annotations": map_of(text)}))})


@dataclass(frozen=True, slots=True)
class Entry:
    """One descriptor of index.json and its annotations (image-spec, image-layout, index.json file)."""

    target: Descriptor
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """The records that the entries stand for, by reference, in the entries' order."""

    by_reference: Mapping[str, ImageRecord]

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference; raises ImageNotFoundError."""
        try:
            return self.by_reference[reference]
        except KeyError:
            raise ImageNotFoundError(f"no image is named {printable(reference)}") from None

    def records(self) -> list[ImageRecord]:
        """Return every record."""
        return list(self.by_reference.values())


def parse_entries(document: bytes, name: str) -> tuple[Entry, ...]:
    """Decode an index.json; `name` is what errors call it. Raises InvalidDocumentError.

    One without entries must say that it is an index, by its schema version: any `{}` would otherwise mean
    that every image is gone.
    """
    targets = parse_index(document, name).manifests
    fields = decode(_ANNOTATED, parse(document, name), name)
    if not targets and fields.get("schemaVersion") != _INDEX_SCHEMA:
        raise InvalidDocumentError(
            name, Reason.TYPE, f"no manifests, and schemaVersion is not {_INDEX_SCHEMA}"
        )
    annotated = fields.get("manifests") or ()
    return tuple(
        Entry(target, fields.get("annotations") or {})
        for target, fields in zip(targets, annotated, strict=True)
    )


def list_entries(entries: Iterable[Entry], base: Reference | None) -> Listing:
    """Return what the entries give, each reference once.

    An entry without a name that is no image, or only belongs to one, is passed over: no one could use it by
    name, and it would be an error at every sync. One with a name stays, and whoever reads it is told.
    """
    records: dict[str, ImageRecord] = {}
    for entry in entries:
        names = names_of(entry.annotations, entry.target.digest, base)
        if not names.own and not _is_image(entry):
            continue
        labels = labels_of(entry.annotations)
        for reference in filter(None, (names.tag, names.at_digest)):
            record = ImageRecord(reference, entry.target, labels)
            records[reference] = merged(records.get(reference), record)
    return Listing(records)


def labels_of(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Return the labels that an entry's annotations stand for.

    Annotations are not labels. The one exception lets a layout say what no layout else could: an entry whose
    annotation `io.cri-containerd.pinned` is exactly `pinned` is pinned.
    """
    pinned = annotations.get(PINNED_LABEL) == PINNED_VALUE
    return {PINNED_LABEL: PINNED_VALUE} if pinned else {}


def merged(earlier: ImageRecord | None, later: ImageRecord) -> ImageRecord:
    """Return the later record of a reference, pinned too where the earlier pins the same target.

    Two tags of one repository can share a target, and so `repository@digest`.
    """
    if earlier is None or earlier.target.digest != later.target.digest:
        return later
    return replace(later, labels={**earlier.labels, **later.labels})


def _is_image(entry: Entry) -> bool:
    """Return whether an entry is an image of its own."""
    return entry.target.media_type in _IMAGE_TYPES and ATTACHED_TYPE not in entry.annotations
