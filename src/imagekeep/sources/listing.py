"""Turns the entries of an index.json into records by reference.

If two entries have the same reference, the later one gets it, as with two imports (containerd: client.Import
creates or updates each in turn). The earlier one stays listed by its digest.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from imagekeep.errors import ImageNotFoundError, InvalidDocumentError, printable
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.documents import parse_index
from imagekeep.oci.gojson import Reason, decode, int64, list_of, map_of, parse, struct, text
from imagekeep.sources.artifacts import Entry
from imagekeep.sources.naming import names_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagekeep.reference import Reference
    from imagekeep.sources.artifacts import ArtifactFilter, Verdict
    from imagekeep.sources.naming import Names

log = logging.getLogger("imagekeep.sources")

DROPPED_SHOWN: Final = 20
"""Maximum number of dropped names logged one by one."""

_INDEX_SCHEMA: Final = 2
_ANNOTATED: Final = struct(
    {
        "schemaVersion": int64,
        "manifests": list_of(struct({"annotations": map_of(text), "artifactType": text})),
    }
)


@dataclass(frozen=True, slots=True)
class Listing:
    """The records by reference, in the entries' order.

    `dropped` has a line for each name that was dropped. `is_final` is false while a document is missing that would
    show whether its entry is an image.
    """

    by_reference: Mapping[str, ImageRecord]
    dropped: tuple[str, ...] = ()
    is_final: bool = True

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference; raises ImageNotFoundError."""
        try:
            return self.by_reference[reference]
        except KeyError:
            raise ImageNotFoundError(f"no such image: {printable(reference)}") from None

    def records(self) -> list[ImageRecord]:
        """Return every record."""
        return list(self.by_reference.values())

    def log_dropped(self, name: str) -> None:
        """Log a warning for each dropped name of the source `name`, up to DROPPED_SHOWN."""
        for line in self.dropped[:DROPPED_SHOWN]:
            log.warning("%s: %s", printable(name), line)
        if (more := len(self.dropped) - DROPPED_SHOWN) > 0:
            log.warning("%s: %d more names dropped", printable(name), more)


def parse_entries(document: bytes, name: str) -> tuple[Entry, ...]:
    """Decode an index.json; `name` is what errors call it. Raises InvalidDocumentError.

    Without entries it must have the schema version of an index: any `{}` would otherwise delete every image.
    """
    targets = parse_index(document, name).manifests
    fields = decode(_ANNOTATED, parse(document, name), name)
    if not targets and fields.get("schemaVersion") != _INDEX_SCHEMA:
        raise InvalidDocumentError(
            name, Reason.TYPE, f"no manifests, and schemaVersion is not {_INDEX_SCHEMA}"
        )
    annotated = fields.get("manifests") or ()
    return tuple(
        Entry(target, fields.get("annotations") or {}, fields.get("artifactType", ""))
        for target, fields in zip(targets, annotated, strict=True)
    )


def list_entries(entries: Sequence[Entry], base: Reference | None, artifacts: ArtifactFilter) -> Listing:
    """Return the listing of these entries, without artifacts and the parts of other images."""
    artifacts.begin(entries)
    judged = [
        (entry, names_of(entry.annotations, entry.target.digest, base), artifacts.verdict(entry))
        for entry in entries
    ]
    parts = {child for _, _, verdict in judged for child in verdict.children}
    records: dict[str, ImageRecord] = {}
    dropped: list[str] = []
    for entry, names, verdict in judged:
        if not _is_listed(entry, names, verdict, parts):
            continue
        labels = labels_of(entry.annotations)
        for reference in filter(None, (names.tag, names.at_digest)):
            record = ImageRecord(reference, entry.target, labels)
            records[reference] = merged(records.get(reference), record)
        dropped.extend(_say_dropped(names))
    return Listing(records, tuple(dropped), all(verdict.is_final for _, _, verdict in judged))


def _is_listed(entry: Entry, names: Names, verdict: Verdict, parts: set[str]) -> bool:
    """Return whether an entry is an image of its own."""
    if names.own:
        if not verdict.named:
            log.info("%s is an artifact, not an image", names.tag or names.at_digest)
        return verdict.named
    return verdict.unnamed and entry.target.digest not in parts


def _say_dropped(names: Names) -> list[str]:
    """Return a line for each dropped name of an entry."""
    listed = names.tag or names.at_digest
    instead = f"listed as {listed}" if listed else "the image is not listed"
    return [f"dropped the name {name} ({instead}; see --base-name)" for name in names.dropped]


def labels_of(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Return the labels in an entry's annotations: `io.cri-containerd.pinned=pinned`, and no others.

    Annotations are not labels, but a layout could not pin an image otherwise.
    """
    pinned = annotations.get(PINNED_LABEL) == PINNED_VALUE
    return {PINNED_LABEL: PINNED_VALUE} if pinned else {}


def merged(earlier: ImageRecord | None, later: ImageRecord) -> ImageRecord:
    """Return the later record of a reference, pinned too if the earlier pins the same target.

    Two tags of one repository can share a target, and so `repository@digest`.
    """
    if earlier is None or earlier.target.digest != later.target.digest:
        return later
    return replace(later, labels={**earlier.labels, **later.labels})
