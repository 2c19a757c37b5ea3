"""Writes what targets are made of, in the caller's transaction.

A digest fixes everything beneath it, so rows are only added, and null becomes known. Triggers delete them with the
last reference that needs them.

Most layers of a new image are known from others. Each step therefore asks in one statement what the store has, and
writes only the rest.
"""

from __future__ import annotations

import json
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import target_statements
from imagekeep.database.rows import by_place, run
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.database.rows import Row
    from imagekeep.oci.target import BlobFacts, ManifestFacts, TargetFacts

_ADD_NEW_BLOB = by_place(target_statements.ADD_NEW_BLOB).sql
_LEARN_BLOB = by_place(target_statements.LEARN_BLOB).sql
_ADD_DOCUMENT = by_place(target_statements.ADD_DOCUMENT_OF)
_ADD_MANIFEST = by_place(target_statements.ADD_MANIFEST)
_ADD_CHAIN = by_place(target_statements.ADD_CHAIN)
_ADD_MANIFEST_LAYER = by_place(target_statements.ADD_MANIFEST_LAYER).sql
_ADD_TARGET_MANIFEST = by_place(target_statements.ADD_TARGET_MANIFEST)

_SMALL = INDEX_TYPES | MANIFEST_TYPES
"""Media types of blobs that are numbered apart, from 1, all others from 2**30.

So the documents of manifests lie together. Between configs, which take most of a page, each would waste its own,
and the file be a quarter larger.
"""

_ASKED_AT_ONCE = 5_000
"""Digests in one statement: an index can name 100,000."""


class _Known(NamedTuple):
    """What the store knows of a blob."""

    key: int
    media_type: str | None
    size: int | None
    present: int | None
    has_document: int
    is_manifest: int


def write_targets(cursor: sqlite.Cursor, targets: Sequence[TargetFacts]) -> None:
    """Write what targets are made of, as far as it could be read; together they take far less time."""
    if not targets:
        return
    blobs: dict[str, BlobFacts] = {}
    for facts in targets:
        for digest, blob in facts.blobs.items():
            blobs.setdefault(digest, blob)
    known = _blobs(cursor, blobs)
    keys = _write_blobs(cursor, blobs, _presence(targets), known)
    new = {
        digest: document
        for facts in targets
        for digest, document in facts.documents.items()
        if digest not in known or not known[digest].has_document
    }
    # In the order of keys SQLite fills each page; in another it splits them.
    rows = (
        {"blob_key": keys[digest], "document": new[digest]} for digest in sorted(new, key=keys.__getitem__)
    )
    run(cursor, _ADD_DOCUMENT, rows)
    learnt = {
        digest: manifest
        for facts in targets
        for digest, manifest in facts.manifests.items()
        if digest not in known or not known[digest].is_manifest or manifest.config in new
    }
    if learnt:
        _write_manifests(cursor, learnt, keys)
    for facts in targets:
        _write_entries(cursor, facts, keys)


def _presence(targets: Sequence[TargetFacts]) -> dict[str, bool | None]:
    """Return whether the source has each blob, as the last target says that knows it."""
    presence: dict[str, bool | None] = {}
    for facts in targets:
        for digest, present in facts.presence().items():
            if present is not None or digest not in presence:
                presence[digest] = present
    return presence


def _blobs(cursor: sqlite.Cursor, digests: Iterable[str]) -> dict[str, _Known]:
    """Return what the store knows of these blobs, by digest."""
    known: dict[str, _Known] = {}
    for batch in _batches(digests):
        for digest, *row in cursor.execute(target_statements.BLOBS_BY_DIGEST, (json.dumps(batch),)):
            known[digest] = _Known(*row)
    return known


def _write_blobs(
    cursor: sqlite.Cursor,
    blobs: Mapping[str, BlobFacts],
    presence: Mapping[str, bool | None],
    known: Mapping[str, _Known],
) -> dict[str, int]:
    """Add the blobs that the store does not have, and what it did not know of others; return every key."""
    small, large = (count(last + 1) for last in cursor.execute(target_statements.LAST_BLOB_KEYS).fetchone())
    keys = {
        digest: known[digest].key if digest in known else next(small if blob.media_type in _SMALL else large)
        for digest, blob in blobs.items()
    }
    added = [
        (keys[digest], digest, blob.media_type, blob.size, presence[digest])
        for digest, blob in blobs.items()
        if digest not in known
    ]
    cursor.executemany(_ADD_NEW_BLOB, added)
    learnt = [
        (blob.media_type, blob.size, presence[digest], keys[digest])
        for digest, blob in blobs.items()
        if digest in known and _teaches(blob, presence[digest], known[digest])
    ]
    if learnt:
        cursor.executemany(_LEARN_BLOB, learnt)
    return keys


def _teaches(blob: BlobFacts, present: bool | None, known: _Known) -> bool:
    """Return whether something becomes known of a blob; its presence is as observed last."""
    return (
        (known.media_type is None and blob.media_type is not None)
        or (known.size is None and blob.size is not None)
        or (present is not None and present != known.present)
    )


def _write_manifests(
    cursor: sqlite.Cursor, manifests: Mapping[str, ManifestFacts], keys: Mapping[str, int]
) -> None:
    chain_keys = _write_chains(cursor, manifests.values())
    rows = (
        {
            "manifest_key": keys[digest],
            "config_key": keys[manifest.config],
            "compressed_size": manifest.compressed_size,
        }
        for digest, manifest in manifests.items()
    )
    run(cursor, _ADD_MANIFEST, rows)
    layers = [
        (
            keys[digest],
            position,
            keys[layer],
            chain_keys[manifest.chain_ids[position]] if manifest.chain_ids else None,
        )
        for digest, manifest in manifests.items()
        for position, layer in enumerate(manifest.layers)
        if layer is not None
    ]
    cursor.executemany(_ADD_MANIFEST_LAYER, layers)


def _write_chains(cursor: sqlite.Cursor, manifests: Iterable[ManifestFacts]) -> dict[str, int]:
    """Add the chain ids that the store does not have; return the key of each."""
    chains = {
        chain_id: diff_id
        for manifest in manifests
        for chain_id, diff_id in zip(manifest.chain_ids, manifest.diff_ids, strict=True)
    }
    keys: dict[str, int] = {}
    for batch in _batches(chains):
        keys.update(cursor.execute(target_statements.CHAINS_BY_ID, (json.dumps(batch),)))
    free = count(cursor.execute(target_statements.LAST_CHAIN_KEY).fetchone()[0] + 1)
    new: list[Row] = [
        {"chain_key": next(free), "chain_id": chain_id, "diff_id": diff_id}
        for chain_id, diff_id in chains.items()
        if chain_id not in keys
    ]
    run(cursor, _ADD_CHAIN, new)
    return keys | {row["chain_id"]: row["chain_key"] for row in new}


def _write_entries(cursor: sqlite.Cursor, facts: TargetFacts, keys: Mapping[str, int]) -> None:
    """Write the entries beneath a target, unless the store knows as many, each with its platform.

    A nested index that can be read now and could not before moves the entries after it. One that cannot be read
    any more leaves what is known of it.
    """
    if facts.target not in keys:
        return
    stored, with_platform = cursor.execute(target_statements.COUNT_ENTRIES, (keys[facts.target],)).fetchone()
    if (stored, with_platform) >= (len(facts.entries), sum(e.platform is not None for e in facts.entries)):
        return
    rows = (
        {
            "target_key": keys[facts.target],
            "position": entry.position,
            "manifest_key": keys[entry.digest],
            "platform": entry.platform,
            "is_attestation": entry.is_attestation,
        }
        for entry in facts.entries
    )
    run(cursor, _ADD_TARGET_MANIFEST, rows)


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(digests)
    while batch := list(islice(rest, _ASKED_AT_ONCE)):
        yield batch
