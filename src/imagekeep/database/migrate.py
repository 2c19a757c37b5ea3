"""Migrates a store's schema, for `db migrate` and alembic's own command.

A migration: take the writers' lock; read the revision again, because another process may have changed it; back up
the file; switch foreign keys off (the pragma is ignored inside a transaction, and with it on, rebuilding a
table deletes the rows that cascade from it); BEGIN IMMEDIATE; the revisions; foreign_key_check; commit. If anything
fails, the transaction is rolled back and the file is as it was.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import IntegrityError

from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.connection import connect
from imagekeep.database.create import read_revision, schema_of_file
from imagekeep.database.engine import make_engine, translating_writes
from imagekeep.database.lock import writer_lock
from imagekeep.database.revision import HEAD, find_revision, require_known, require_unchanged
from imagekeep.errors import ImagekeepError, SchemaVersionError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from imagekeep.database.driver import sqlite


_alembic = threading.Lock()
"""Alembic keeps its environment in globals of its modules."""


@dataclass(slots=True)
class Migration:
    """One migration of a store: its options and its result."""

    path: Path
    dry_run: bool = False
    before: str | None = None
    after: str | None = None
    backup: Path | None = None


def migrate(path: Path, *, dry_run: bool = False) -> Migration:
    """Back up the store at `path`, and migrate its schema to this release's revision.

    A revision that somebody adds to the directory is left to alembic's own command. With `dry_run` everything is
    done and then rolled back, without a backup. Raises SchemaVersionError, and changes nothing, if the schema is
    newer than this imagekeep or a row does not fit the new one.
    """
    migration = Migration(path, dry_run)
    with as_file(files("imagekeep.migrations")) as directory:
        config = Config(attributes={"migration": migration})
        config.set_main_option("script_location", str(directory).replace("%", "%%"))
        with _alembic:
            command.upgrade(config, HEAD)
    return migration


@contextlib.contextmanager
def migration_transaction(migration: Migration, destination: str | None) -> Iterator[Connection]:
    """Yield the connection on which migrations/env.py runs the revisions up or down to `destination`."""
    path = migration.path
    with writer_lock(path), translating_writes(path):
        schema = schema_of_file(path)
        migration.before = schema.revision
        require_known(migration.before, path)
        require_unchanged(schema, path)
        if migration.before not in (None, destination) and not migration.dry_run:
            migration.backup = backup_path(path, migration.before)
            copy_store(path, migration.backup)
        with _backup_if_moved(migration), contextlib.closing(connect(path)) as driver:
            driver.execute("PRAGMA foreign_keys = OFF")
            with _transaction(driver, migration) as connection:
                yield connection
                migration.after = find_revision(driver.cursor(), path)


@contextlib.contextmanager
def _backup_if_moved(migration: Migration) -> Iterator[None]:
    """Remove the backup if the store has not changed: repeated attempts would fill the disk."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ImagekeepError, OSError):
            if migration.backup is not None and read_revision(migration.path) == migration.before:
                migration.backup.unlink()
                migration.backup = None
        raise


@contextlib.contextmanager
def _transaction(driver: sqlite.Connection, migration: Migration) -> Iterator[Connection]:
    """Run the revisions in one transaction, which ends in a check of every foreign key."""
    engine = make_engine(lambda: driver)
    path = printable(migration.path)
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                row = "a row" if broken[1] is None else f"row {broken[1]}"
                raise SchemaVersionError(
                    f"store {path}: {row} of table {broken[0]} lacks its row of {broken[2]}; "
                    "nothing was changed; run `imagekeep db check`"
                )
            if migration.dry_run:
                transaction.rollback()
    except IntegrityError as error:
        raise SchemaVersionError(
            f"store {path}: a row does not fit the new schema ({error.orig}); nothing was changed"
        ) from error
