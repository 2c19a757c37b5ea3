"""Makes a store's file and moves its schema, beneath Store.open, `db migrate` and alembic's own command.

A move is: take the writers' lock; read the revision again, for another process may have moved it meanwhile;
copy the file; switch foreign keys off (the pragma is ignored inside a transaction, and with it on, rebuilding
a table deletes the rows that cascade from it); BEGIN IMMEDIATE; the revisions; foreign_key_check; commit.
Whatever fails, the transaction is rolled back and the old file is as it was.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import IntegrityError

from imagekeep.database.backup import backup_path, copy_store, sync_directory
from imagekeep.database.connection import connect, translating
from imagekeep.database.engine import make_engine, translating_writes
from imagekeep.database.files import create_private, make_private_directories
from imagekeep.database.lock import writer_lock
from imagekeep.database.revision import (
    exists,
    find_revision,
    read_schema,
    require_current,
    require_known,
    require_unchanged,
)
from imagekeep.database.trusted_files import require_no_remains, require_trusted_directory
from imagekeep.errors import (
    ImagekeepError,
    PermissionDeniedError,
    SchemaVersionError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from imagekeep.database.driver import sqlite
    from imagekeep.database.revision import Schema


@dataclass(slots=True)
class Migration:
    """One move of a store's schema: where it is asked to go, and what came of it."""

    path: Path
    dry_run: bool = False
    before: str | None = None
    after: str | None = None
    backup: Path | None = None


def open_or_create(path: Path) -> None:
    """Make sure that there is a store of the newest revision at `path`, making one where there is none.

    Raises SchemaVersionError for one of another revision, NotAStoreError for another file.
    """
    make_file(path)
    schema = schema_of_file(path)
    if schema.revision is None:
        migrate(path)
    else:
        require_current(schema, path)


def read_revision(path: Path) -> str | None:
    """Return the revision of the file at `path`, or None; raises as `schema_of_file` does."""
    return schema_of_file(path).revision


def schema_of_file(path: Path) -> Schema:
    """Return what the schema of the file at `path` is; raises as `read_schema` and `connect` do."""
    with translating(path), contextlib.closing(connect(path, read_only=True)) as connection:
        return read_schema(connection.cursor(), path)


def migrate(path: Path, *, dry_run: bool = False) -> Migration:
    """Move the schema of the store at `path` to the newest revision, keeping a copy of the file from before.

    With `dry_run` the real path is taken and then rolled back, and no copy is kept. Raises SchemaVersionError
    where the schema is newer than this imagekeep or a row does not fit the new one; nothing has changed then.
    """
    migration = Migration(path, dry_run)
    with as_file(files("imagekeep.migrations")) as directory:
        config = Config(attributes={"migration": migration})
        config.set_main_option("script_location", str(directory).replace("%", "%%"))
        command.upgrade(config, "head")
    return migration


@contextlib.contextmanager
def migration_transaction(migration: Migration, destination: str | None) -> Iterator[Connection]:
    """Give the connection on which migrations/env.py runs the revisions up or down to `destination`."""
    path = migration.path
    with writer_lock(path), translating_writes(path):
        schema = schema_of_file(path)
        migration.before = schema.revision
        require_known(migration.before, path)
        require_unchanged(schema, path)
        if migration.before not in (None, destination) and not migration.dry_run:
            migration.backup = backup_path(path, migration.before)
            copy_store(path, migration.backup)
        with _backup_of_what_moved(migration), contextlib.closing(connect(path)) as driver:
            driver.execute("PRAGMA foreign_keys = OFF")
            with _transaction(driver, migration) as connection:
                yield connection
                migration.after = find_revision(driver.cursor(), path)


@contextlib.contextmanager
def _backup_of_what_moved(migration: Migration) -> Iterator[None]:
    """Remove the copy again where the store is still what it was: one that is tried again would fill the disk."""
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


def make_file(path: Path) -> None:
    """Make an empty file, where there is none: mode 0600, in a directory that is made with mode 0700.

    A config's environment may hold secrets, so nobody else may read it; SQLite gives its companions the same
    mode. Another process that makes it at the same moment is as good. Raises UntrustedFileError if another user
    could replace it, FailedPreconditionError beside the -wal file or journal of a store that is gone.
    """
    if exists(path):
        return
    require_trusted_directory(path)
    require_no_remains(path)
    try:
        made = make_private_directories(path.absolute().parent)
        require_trusted_directory(path)  # another user may have made a part of it first
        for directory in made:
            sync_directory(directory.parent)
        with contextlib.suppress(FileExistsError):
            os.close(create_private(path))
        sync_directory(path.parent)
    except PermissionError as error:
        raise PermissionDeniedError(
            f"store {printable(path)}: {error.strerror}; choose another with --store or IMAGEKEEP_STORE"
        ) from error
    except OSError as error:
        raise StoreUnavailableError(f"store {printable(path)}: {error.strerror}") from error
