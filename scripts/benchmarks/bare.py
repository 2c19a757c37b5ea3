"""The baseline: the same answers from the same file as tuples, with nothing but the driver.

The driver keeps each statement prepared. Nothing is converted, checked or locked; reads have no transaction, and
writes only SQLite's own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from imagekeep.database.driver import sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.corpus import MadeImage

RESOLVE = """
SELECT id FROM "references" JOIN images USING (image_key) WHERE "references".platform_key = 0 AND name = ?
"""
GET = """
SELECT image_key, id, chain_id, size, document FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = 0 AND id = ?
"""
GET_BY_PREFIX = """
SELECT image_key, id, chain_id, size, document FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = 0 AND id >= ? AND id < ? LIMIT 2
"""
REFERENCES = """
SELECT name, pinned_refs.reference IS NOT NULL
FROM "references" LEFT JOIN pinned_refs ON pinned_refs.reference = name
WHERE "references".image_key = ? ORDER BY sort_rank, coalesce(sort_name, name), name
"""
ALL_IMAGES = """
SELECT image_key, id, chain_id, size, document FROM images JOIN documents ON blob_key = config_key ORDER BY id
"""
ALL_REFERENCES = """
SELECT "references".image_key, name, pinned_refs.reference IS NOT NULL
FROM "references" LEFT JOIN pinned_refs ON pinned_refs.reference = name
ORDER BY "references".image_key, sort_rank, coalesce(sort_name, name), name
"""

_STATE = """
SELECT images.id, pinned_refs.reference IS NOT NULL, ref_cache.target_digest, ref_cache.manifest_key
FROM "references" JOIN images USING (image_key)
LEFT JOIN pinned_refs ON pinned_refs.reference = name
LEFT JOIN ref_cache ON ref_cache.reference = name
WHERE "references".platform_key = 0 AND name = ?
"""
_ADD_BLOB = "INSERT INTO blobs (digest) VALUES (?) ON CONFLICT DO NOTHING"
_ADD_DOCUMENT = """
INSERT INTO documents (blob_key, document)
VALUES ((SELECT blob_key FROM blobs WHERE digest = ?), ?) ON CONFLICT DO NOTHING
"""
_ADD_IMAGE = """
INSERT INTO images (id, chain_id, size, config_key)
VALUES (?1, ?2, ?3, (SELECT blob_key FROM blobs WHERE digest = ?1)) ON CONFLICT DO NOTHING
"""
_ADD_REFERENCE = """
INSERT INTO "references" (name, image_key, sort_rank, sort_name)
VALUES (?, (SELECT image_key FROM images WHERE platform_key = 0 AND id = ?), ?, NULL)
"""
_MOVE_REFERENCE = """
UPDATE "references" SET image_key = (SELECT image_key FROM images WHERE platform_key = 0 AND id = ?)
WHERE platform_key = 0 AND name = ?
"""
_ADD_PIN = """
INSERT INTO pinned_refs (reference, image_key)
SELECT name, image_key FROM "references" WHERE platform_key = 0 AND name = ?
"""
_VERIFY = """
INSERT INTO ref_cache (reference, image_key, target_digest, verified_at)
VALUES (?1, (SELECT image_key FROM "references" WHERE platform_key = 0 AND name = ?1), ?2, ?3)
ON CONFLICT (reference, image_key) DO UPDATE SET
    target_digest = excluded.target_digest, verified_at = excluded.verified_at
"""
_RECORD = """
INSERT INTO reference_history (reference, image_id, target_digest, pinned, event, at) VALUES (?, ?, ?, ?, ?, ?)
"""
Pair = tuple[str, "MadeImage"]
"""A reference and its new image."""

Found = tuple[str, tuple[str, ...], str, int, bool, bytes]
"""An image: its id, references, chain id, size, pin and config."""


def connect_to(path: Path, *, writing: bool = False) -> sqlite.Connection:
    """Open a connection to read, or to write durably."""
    mode = "rw" if writing else "ro"
    connection = sqlite.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None)
    if writing:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def resolve_each(connection: sqlite.Connection, names: Sequence[str]) -> list[str]:
    """Return the id that each reference names."""
    execute = connection.execute
    return [execute(RESOLVE, (name,)).fetchone()[0] for name in names]


def get_each(connection: sqlite.Connection, ids: Sequence[str]) -> list[Found]:
    """Return the image with each full id."""
    execute = connection.execute
    found = []
    for image_id in ids:
        key, full_id, chain_id, size, document = execute(GET, (image_id,)).fetchone()
        named = execute(REFERENCES, (key,)).fetchall()
        found.append((full_id, *_names_and_pin(named), chain_id, size, document))
    return [(i, n, c, s, p, d) for i, n, p, c, s, d in found]


def get_each_by_prefix(connection: sqlite.Connection, prefixes: Sequence[str]) -> list[Found]:
    """Return the image with each truncated id."""
    execute = connection.execute
    found = []
    for prefix in prefixes:
        low = f"sha256:{prefix}"
        [(key, full_id, chain_id, size, document)] = execute(GET_BY_PREFIX, (low, f"{low}g")).fetchall()
        named = execute(REFERENCES, (key,)).fetchall()
        found.append((full_id, *_names_and_pin(named), chain_id, size, document))
    return [(i, n, c, s, p, d) for i, n, p, c, s, d in found]


def list_images(connection: sqlite.Connection) -> list[Found]:
    """Return every image with two queries: the references in order, then the images."""
    names: dict[int, list[str]] = {}
    pinned = set()
    for key, name, pins in connection.execute(ALL_REFERENCES):
        names.setdefault(key, []).append(name)
        if pins:
            pinned.add(key)
    return [
        (image_id, tuple(names.get(key, ())), chain_id, size, key in pinned, document)
        for key, image_id, chain_id, size, document in connection.execute(ALL_IMAGES)
    ]


def add_batch(connection: sqlite.Connection, pairs: Sequence[Pair]) -> None:
    """Write new references with their images in one transaction, as one batch of a sync does."""
    execute, executemany = connection.execute, connection.executemany
    now = time.time_ns() // 1000
    execute("BEGIN IMMEDIATE")
    for name, _ in pairs:
        execute(_STATE, (name,)).fetchone()
    executemany(_ADD_BLOB, [(digest,) for _, i in pairs for digest in (i.image_id, i.target.digest)])
    executemany(_ADD_DOCUMENT, [(i.image_id, i.config_json) for _, i in pairs])
    executemany(_ADD_IMAGE, [(i.image_id, i.chain_id, i.size) for _, i in pairs])
    executemany(_ADD_REFERENCE, [(name, i.image_id, 1 if name == i.tag else 2) for name, i in pairs])
    executemany(_ADD_PIN, [(name,) for name, i in pairs if i.pinned and name == i.tag])
    executemany(_VERIFY, [(name, i.target.digest, now) for name, i in pairs])
    executemany(
        _RECORD,
        [(name, i.image_id, i.target.digest, i.pinned and name == i.tag, "new", now) for name, i in pairs],
    )
    execute("COMMIT")


def update_each(connection: sqlite.Connection, pairs: Sequence[Pair], event: str) -> None:
    """Write what an update of each reference writes, each in its own transaction."""
    execute = connection.execute
    for name, image in pairs:
        now = time.time_ns() // 1000
        execute("BEGIN IMMEDIATE")
        execute(_STATE, (name,)).fetchone()
        if event != "unchanged":
            execute(_ADD_BLOB, (image.image_id,))
            execute(_ADD_BLOB, (image.target.digest,))
            execute(_ADD_DOCUMENT, (image.image_id, image.config_json))
            execute(_ADD_IMAGE, (image.image_id, image.chain_id, image.size))
        if event == "new":
            execute(_ADD_REFERENCE, (name, image.image_id, 1))
        elif event == "moved":
            execute(_MOVE_REFERENCE, (image.image_id, name))
        execute(_VERIFY, (name, image.target.digest, now))
        if event != "unchanged":
            execute(_RECORD, (name, image.image_id, image.target.digest, False, event, now))
        execute("COMMIT")


def _names_and_pin(rows: list[Any]) -> tuple[tuple[str, ...], bool]:
    return tuple([name for name, _ in rows]), any(pins for _, pins in rows)
