"""Finds rows about the content of targets that do not follow from the stored documents.

Each target is read again from the documents that the store has of it, and its rows compared. A row may know less
than the documents: they can have come with another target, and null becomes known when its own is read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import content_statements as statements
from imagekeep.database.row_types import BLOB, INTEGER, TEXT, TEXT_OR_NULL, typed
from imagekeep.digest import verify
from imagekeep.errors import ContentNotFoundError, CorruptContentError
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import INDEX_TYPES
from imagekeep.oci.image_reader import ImageReader
from imagekeep.oci.target import ManifestFacts, TargetFacts, read_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagekeep.database.driver import sqlite

_ENTRY = (TEXT_OR_NULL, TEXT_OR_NULL, INTEGER)
_LAYER = (INTEGER, TEXT_OR_NULL, TEXT_OR_NULL, TEXT_OR_NULL)


class ContentProblem(NamedTuple):
    """A row that is wrong: its table, what names it there, and why."""

    table: str
    row: str
    message: str


class StoredDocuments:
    """The documents of a store as a content reader, and as the set of their digests."""

    def __init__(self, cursor: sqlite.Cursor) -> None:
        self._cursor = cursor
        self.corrupt: list[str] = []

    def __contains__(self, digest: object) -> bool:
        return self._cursor.execute(statements.HAS_DOCUMENT, (digest,)).fetchone() is not None

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document; raises ContentNotFoundError, and CorruptContentError, which is remembered."""
        rows = typed(self._cursor.execute(statements.DOCUMENT, (descriptor.digest,)), (BLOB,))
        document: bytes | None = next((found for (found,) in rows), None)
        if document is None:
            raise ContentNotFoundError(descriptor.digest)
        try:
            verify(descriptor.digest, document)
        except CorruptContentError:
            self.corrupt.append(descriptor.digest)
            raise
        return document

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a document; raises as `read` does."""
        return ContentInfo(digest, len(self.read(Descriptor("", digest, 0))))


_NEEDLESS = (
    (statements.TARGETS_WITHOUT_REFERENCE, "target_manifests", "no reference has this target"),
    (statements.MANIFESTS_WITHOUT_TARGET, "manifests", "no target has this manifest"),
    (statements.MANIFESTS_WITHOUT_DOCUMENT, "manifests", "its document is missing"),
    (statements.LAYERS_WITHOUT_BLOB, "manifest_layers", "its layer has no row in blobs"),
    (statements.BLOBS_WRONGLY_COUNTED, "blobs", "its layer_uses are not those of manifest_layers"),
    (statements.CHAINS_WRONGLY_COUNTED, "chains", "its layer_uses are not those of manifest_layers"),
    (statements.BLOBS_WITHOUT_USE, "blobs", "nothing needs it"),
)


def find_content_problems(connection: sqlite.Connection) -> Iterator[ContentProblem]:
    """Yield each row about the content of targets that nothing needs, or that contradicts the documents."""
    for statement, table, message in _NEEDLESS:
        for (row,) in connection.execute(statement):
            yield ContentProblem(table, row, message)
    for digest, media_type in typed(connection.execute(statements.TARGETS), (TEXT, TEXT)):
        yield from _wrong_target(connection, digest, media_type)


def _wrong_target(connection: sqlite.Connection, digest: str, media_type: str) -> Iterator[ContentProblem]:
    stored = StoredDocuments(connection.cursor())
    with ImageReader(stored) as reader:
        facts = read_target(Descriptor(media_type, digest, 0), reader, stored)
    if stored.corrupt:
        for corrupt in stored.corrupt:
            yield ContentProblem("documents", corrupt, "it has another digest")
        return
    rows = list(typed(connection.execute(statements.ENTRIES_OF_TARGET, (digest,)), _ENTRY))
    if not _follows(rows, facts):
        yield ContentProblem("target_manifests", digest, "its rows do not follow from the documents")
    for manifest, says in facts.manifests.items():
        if not _manifest_follows(connection, manifest, says):
            yield ContentProblem("manifests", manifest, "its rows do not follow from the documents")


def _follows(rows: Sequence[tuple[str | None, str | None, int]], facts: TargetFacts) -> bool:
    """Return whether the entries of a target are those of its documents.

    Some may be missing if there is a nested index, whose document can have come with another target.
    """
    nested = any(entry.media_type in INDEX_TYPES for entry in facts.entries)
    if not nested and len(rows) != len(facts.entries):
        return False
    rest = iter(facts.entries)
    for digest, platform, is_attestation in rows:
        told = (digest, bool(is_attestation))
        entry = next((each for each in rest if (each.digest, each.is_attestation) == told), None)
        if entry is None or platform not in (None, entry.platform):
            return False
    return True


def _manifest_follows(connection: sqlite.Connection, digest: str, facts: ManifestFacts) -> bool:
    """Return whether the rows of a manifest say what its document says, and that of its config."""
    own = connection.execute(statements.MANIFEST, (digest,)).fetchone()
    if own != (facts.config, facts.compressed_size):
        return False
    expected = [(place, layer) for place, layer in enumerate(facts.layers) if layer is not None]
    rows = list(typed(connection.execute(statements.LAYERS_OF_MANIFEST, (digest,)), _LAYER))
    return [(place, layer) for place, layer, *_ in rows] == expected and all(
        _chain_follows(facts, place, chain_id, diff_id) for place, _, chain_id, diff_id in rows
    )


def _chain_follows(facts: ManifestFacts, place: int, chain_id: str | None, diff_id: str | None) -> bool:
    """Return whether a layer's chain id is that of the config, if it is known.

    A config can state the chain id of other layers as its first diff id. Both are then one row, with one diff id.
    """
    if chain_id is None:
        return True
    if not facts.chain_ids or chain_id != facts.chain_ids[place]:
        return False
    return diff_id == facts.diff_ids[place] or chain_id in (diff_id, facts.diff_ids[place])
