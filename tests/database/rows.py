"""Inserts rows into a store with plain SQL, like another program."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from imagekeep.database.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite

TARGET = f"sha256:{'a' * 64}"


def digest_of(document: bytes) -> str:
    """Return the sha256 digest of a document."""
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite.Connection]:
    """Yield a writable connection, and close it."""
    with contextlib.closing(connect(path)) as connection:
        yield connection


def add_image(connection: sqlite.Connection, key: int, *names: str, document: bytes = b"{}") -> str:
    """Insert an image with its references in one transaction; return its id."""
    image_id = digest_of(document)
    connection.execute("BEGIN IMMEDIATE")
    add_blob(connection, image_id)
    connection.execute(
        "INSERT INTO images (image_key, id, chain_id, size, config_key)"
        " SELECT ?, digest, ?, ?, blob_key FROM blobs WHERE digest = ?",
        (key, TARGET, 1000 + key, image_id),
    )
    connection.execute(
        "INSERT OR IGNORE INTO documents SELECT blob_key, ? FROM blobs WHERE digest = ?", (document, image_id)
    )
    for name in names:
        connection.execute(
            'INSERT INTO "references" (name, image_key, sort_rank) VALUES (?, ?, 1)', (name, key)
        )
    connection.execute("COMMIT")
    return image_id


def add_blob(connection: sqlite.Connection, digest: str) -> None:
    """Insert a blob unless there is one."""
    connection.execute("INSERT INTO blobs (digest) VALUES (?) ON CONFLICT DO NOTHING", (digest,))


def pin(connection: sqlite.Connection, name: str, key: int) -> None:
    """Pin an image by a reference."""
    connection.execute("INSERT INTO pinned_refs (reference, image_key) VALUES (?, ?)", (name, key))


def cache(connection: sqlite.Connection, name: str, key: int, target: str = TARGET, at: int = 0) -> None:
    """Insert a cache row."""
    add_blob(connection, target)
    connection.execute(
        "INSERT INTO ref_cache (reference, image_key, target_digest, verified_at) VALUES (?, ?, ?, ?)",
        (name, key, target, at),
    )


def record(connection: sqlite.Connection, name: str, event: str = "new", pinned: int = 0) -> None:
    """Insert a history row."""
    connection.execute(
        "INSERT INTO reference_history (reference, image_id, pinned, event, at) VALUES (?, ?, ?, ?, 0)",
        (name, TARGET, pinned, event),
    )


def rows_of(connection: sqlite.Connection, table: str) -> list[Any]:
    """Return every row of a table, ordered by its first column."""
    return connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()


def contents(path: Path) -> dict[str, list[Any]]:
    """Return every row of every table except alembic's."""
    with opened(path) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'alembic_version' ORDER BY name"
        ).fetchall()
        return {table: rows_of(connection, table) for (table,) in tables}


def schema_of(path: Path) -> dict[str, str]:
    """Return SQLite's text of each table, index, trigger and view, except alembic's."""
    with opened(path) as connection:
        return dict(
            connection.execute(
                "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE tbl_name != 'alembic_version'"
            ).fetchall()
        )


BEFORE_PLATFORMS = {
    "images": "SELECT image_key, id, chain_id, size FROM images ORDER BY 1",
    "configs": "SELECT image_key, document FROM images JOIN documents ON blob_key = config_key ORDER BY 1",
    "references": 'SELECT name, image_key, sort_rank, sort_name FROM "references" ORDER BY 1',
    "ref_cache": (
        "SELECT reference, image_key, target_digest, platform, verified_at FROM ref_cache"
        " JOIN images USING (image_key) JOIN platforms USING (platform_key) ORDER BY 1"
    ),
    "reference_history": (
        "SELECT sequence, reference, image_id, target_digest, pinned, event, at FROM reference_history ORDER BY 1"
    ),
}
"""The rows of the tables that revision 0005 changed, as they were before it, of a store with one platform."""


def contents_before_platforms(path: Path) -> dict[str, list[Any]]:
    """Return the rows of every table of revision 0004 in a store of revision 0005."""
    same = ("pinned_refs", "incomplete_refs", "watcher", "identity", "image_filesystem")
    with opened(path) as connection:
        return {table: rows_of(connection, table) for table in same} | {
            table: connection.execute(statement).fetchall() for table, statement in BEFORE_PLATFORMS.items()
        }
