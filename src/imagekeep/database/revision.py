"""Whether a file is a store, which revision its schema is at, and whether this imagekeep may use it.

It is asked at every opening, so nothing here imports alembic; a test holds REVISIONS to the migrations.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from imagekeep.database import statements
from imagekeep.errors import (
    NotAStoreError,
    PermissionDeniedError,
    SchemaVersionError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.driver import sqlite

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every revision this imagekeep knows, the oldest first; the last is the one it reads and writes."""

HEAD = REVISIONS[-1]

SCHEMA_FINGERPRINT = "3107238e2f5f26b0ff5352a626e7bcaf6e3613a20e3e26ccf67cd6296ae198c7"
"""What `imagekeep.database.check.fingerprint` says of a file at HEAD; `db check` compares."""

APPLICATION_ID = 0x696D6B70
"""Marks a SQLite file as imagekeep's ("imkp"): another program's file is refused, not written."""

_HEADER_BYTES = 100


def exists(path: Path) -> bool:
    """Return whether there is a file that may be a store; raise NotAStoreError for what cannot be one.

    A symbolic link is refused: the lock file and SQLite's companions would stand beside the link for one
    program and beside its target for another, and no longer keep them apart.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise PermissionDeniedError(f"store {printable(path)}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise StoreUnavailableError(f"store {printable(path)}: {error}") from error
    if stat.S_ISLNK(found.st_mode):
        raise NotAStoreError(f"store {printable(path)}: a symbolic link; give the path that it points at")
    if not stat.S_ISREG(found.st_mode):
        raise NotAStoreError(f"store {printable(path)}: not a file; give the path of a file")
    # SQLite itself takes a file of one byte for an empty database, and overwrites it.
    if 0 < found.st_size < _HEADER_BYTES:
        raise NotAStoreError(f"store {printable(path)}: not a SQLite database; give another path")
    return True


def find_revision(cursor: sqlite.Cursor, path: Path) -> str | None:
    """Return the revision of the schema, or None in a file that has none yet.

    Raises NotAStoreError where the file is another program's. Let SQLite's own errors pass.
    """
    # In this order: a store that another process makes between the two has its mark when it has its tables.
    tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    identity = cursor.execute("PRAGMA application_id").fetchone()[0]
    if identity != APPLICATION_ID and (identity or tables):
        raise NotAStoreError(f"store {printable(path)}: another program's database; give another path")
    if "alembic_version" not in tables:
        return None
    return current_revision(cursor)


def current_revision(cursor: sqlite.Cursor) -> str | None:
    """Return the revision of a file that is known to be a store, or None. Let SQLite's own errors pass."""
    row = cursor.execute(statements.REVISION).fetchone()
    return str(row[0]) if row else None


def require_head(revision: str | None, path: Path) -> None:
    """Raise SchemaVersionError, naming both revisions and what to do, unless the schema is this one's."""
    if revision == HEAD:
        return
    store = printable(path)
    if revision is None or revision in REVISIONS:
        raise SchemaVersionError(
            f"store {store}: its schema is revision {revision or 'base'}, this imagekeep needs {HEAD}; "
            f"run `imagekeep --store {store} db migrate`"
        )
    require_known(revision, path)


def require_known(revision: str | None, path: Path) -> None:
    """Raise SchemaVersionError where the schema is of a revision that this imagekeep has never heard of."""
    if revision is not None and revision not in REVISIONS:
        raise SchemaVersionError(
            f"store {printable(path)}: its schema is revision {printable(revision)}, newer than {HEAD}, the "
            "newest that this imagekeep knows; install the imagekeep that wrote it, or a later one"
        )
