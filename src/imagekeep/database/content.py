"""Writes what targets are made of, in the caller's transaction.

A digest fixes everything beneath it, so rows are only added, and null becomes known. Triggers delete them with the
last reference that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import statements
from imagekeep.database.rows import by_place, run

if TYPE_CHECKING:
    from imagekeep.database.driver import sqlite
    from imagekeep.oci.target import TargetFacts

_ADD_BLOB = by_place(statements.ADD_BLOB)
_ADD_DOCUMENT = by_place(statements.ADD_DOCUMENT)
_ADD_MANIFEST = by_place(statements.ADD_MANIFEST)
_ADD_CHAIN = by_place(statements.ADD_CHAIN)
_ADD_MANIFEST_LAYER = by_place(statements.ADD_MANIFEST_LAYER)
_ADD_TARGET_MANIFEST = by_place(statements.ADD_TARGET_MANIFEST)


def write_target(cursor: sqlite.Cursor, facts: TargetFacts) -> None:
    """Write what a target is made of, as far as it could be read."""
    presence = facts.presence()
    run(
        cursor,
        _ADD_BLOB,
        (
            {
                "digest": digest,
                "media_type": blob.media_type,
                "size": blob.size,
                "present": presence[digest],
            }
            for digest, blob in facts.blobs.items()
        ),
    )
    run(cursor, _ADD_DOCUMENT, ({"digest": d, "document": text} for d, text in facts.documents.items()))
    for digest, manifest in facts.manifests.items():
        run(
            cursor,
            _ADD_MANIFEST,
            [
                {
                    "manifest_digest": digest,
                    "config_digest": manifest.config,
                    "compressed_size": manifest.compressed_size,
                }
            ],
        )
        chains = zip(manifest.chain_ids, manifest.diff_ids, strict=True)
        run(cursor, _ADD_CHAIN, ({"chain_id": chain_id, "diff_id": diff_id} for chain_id, diff_id in chains))
        chain_ids = manifest.chain_ids or (None,) * len(manifest.layers)
        run(
            cursor,
            _ADD_MANIFEST_LAYER,
            (
                {
                    "manifest_digest": digest,
                    "position": position,
                    "layer_digest": layer,
                    "chain_id": chain_id,
                }
                for position, (layer, chain_id) in enumerate(zip(manifest.layers, chain_ids, strict=True))
            ),
        )
    run(
        cursor,
        _ADD_TARGET_MANIFEST,
        (
            {
                "target_digest": facts.target,
                "position": entry.position,
                "manifest_digest": entry.digest,
                "platform": entry.platform,
                "is_attestation": entry.is_attestation,
            }
            for entry in facts.entries
        ),
    )
