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
