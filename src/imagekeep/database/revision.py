"""Whether a file is a store, which revision its schema is at, and whether this imagekeep may use it.

It is asked at every opening, so nothing here imports alembic; a test holds REVISIONS to the migrations.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import statements
from imagekeep.database.schema_check import (
    Comparison,
    compare,
    describe,
    digest_of_object,
    expected_objects,
    read_objects,
)
from imagekeep.database.trusted_files import look, require_openable_name, require_regular
from imagekeep.errors import (
    CorruptStoreError,
    NotAStoreError,
    SchemaVersionError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from imagekeep.database.schema_check import SchemaObject

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every revision this imagekeep knows, the oldest first; the last is the one it reads and writes."""

HEAD = REVISIONS[-1]

APPLICATION_ID = 0x696D6B70
"""Marks a SQLite file as imagekeep's ("imkp"): another program's file is refused, not written."""

UNKNOWN_WAIT = 10.0
"""Seconds for which a schema that is not known to be imagekeep's may be read."""

_STEPS = 10_000
"""Steps of SQLite's virtual machine, less than a millisecond, between two looks at the clock."""

_RESTORE = "see `imagekeep db check`; restore a backup, or remove the store and sync again"

_HEADER_BYTES = 100


def exists(path: Path) -> bool:
    """Return whether there is a file that may be a store; raise NotAStoreError for what cannot be one.

    A symbolic link is refused: the lock file and SQLite's companions would stand beside the link for one
    program and beside its target for another, and no longer keep them apart.
    """
    require_openable_name(path)
    found = look(str(path))
    if found is None:
        return False
    require_regular(found, NotAStoreError)
    # SQLite itself takes a file of one byte for an empty database, and overwrites it.
    if 0 < found.status.st_size < _HEADER_BYTES:
        raise NotAStoreError(f"store {printable(path)}: not a SQLite database; give another path")
    return True


class Schema(NamedTuple):
    """What a file's schema is: its revision, None if it has none yet, and how its objects differ from that."""

    revision: str | None
    comparison: Comparison = Comparison((), ())


def read_schema(cursor: sqlite.Cursor, path: Path) -> Schema:
    """Return what the schema of the file is; nothing of the file but its schema is read before this.

    Until the schema is known to be imagekeep's, statements on the connection are interrupted UNKNOWN_WAIT seconds
    from now: what they read may be a view that never ends. Raises NotAStoreError if the file is another program's,
    CorruptStoreError if it has no proper revision. SQLite's own errors pass.
    """
    bound_reads(cursor.connection)
    # In this order: a store that another process makes between the two has its mark when it has its tables.
    objects = read_objects(cursor)
    _require_application_id(cursor, objects, path)
    version_table = next((one for one in objects if one.name == "alembic_version"), None)
    if version_table is None:
        schema = Schema(None)
    elif digest_of_object(version_table) != expected_objects(HEAD)["table alembic_version"]:
        raise CorruptStoreError(f"store {printable(path)}: {version_table} is changed ({_RESTORE})")
    else:
        revision = current_revision(cursor)
        schema = Schema(revision, compare(revision, objects)) if revision in REVISIONS else Schema(revision)
    if not schema.comparison.differences and (schema.revision in REVISIONS or not objects):
        lift_bound(cursor.connection)
    return schema


def find_revision(cursor: sqlite.Cursor, path: Path) -> str | None:
    """Return the revision of the schema, or None in a file that has none yet; otherwise as `read_schema`."""
    return read_schema(cursor, path).revision


def require_current(schema: Schema, path: Path) -> None:
    """Raise unless a store has exactly the schema of HEAD; raises as `require_head` and `require_unchanged`."""
    require_head(schema.revision, path)
    require_unchanged(schema, path)


def require_unchanged(schema: Schema, path: Path) -> None:
    """Raise CorruptStoreError, naming the objects, if a schema is not what its revision made."""
    if schema.comparison.differences:
        raise CorruptStoreError(
            f"store {printable(path)}: schema is not that of revision {schema.revision}: "
            f"{printable(describe(schema.comparison.differences), 1000)} ({_RESTORE})"
        )


def bound_reads(connection: sqlite.Connection) -> None:
    """Interrupt statements on the connection UNKNOWN_WAIT seconds from now."""
    deadline = time.monotonic() + UNKNOWN_WAIT
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)


def lift_bound(connection: sqlite.Connection) -> None:
    """Let statements on the connection run for as long as they need."""
    connection.set_progress_handler(None, 0)


def _require_application_id(cursor: sqlite.Cursor, objects: Collection[SchemaObject], path: Path) -> None:
    """Raise NotAStoreError unless the file has imagekeep's mark or is still empty."""
    tables = {one.name for one in objects if one.type == "table"}
    identity = cursor.execute("PRAGMA application_id").fetchone()[0]
    if identity == APPLICATION_ID or not (identity or tables):
        return
    if not identity and {"alembic_version", "images", "references"} <= tables:
        raise NotAStoreError(
            f"store {printable(path)}: has imagekeep's tables but not its application id, like a copy made by "
            "sqlite3's .dump or .clone (use a copy made by `imagekeep db export`; to adopt this one, run "
            f"`PRAGMA application_id = {APPLICATION_ID}` in it)"
        )
    raise NotAStoreError(f"store {printable(path)}: another program's database; give another path")


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
