"""Creates new stores, and checks those that exist: what Store.open does with the file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from imagekeep.database import statements
from imagekeep.database.connection import connect
from imagekeep.database.driver import translating
from imagekeep.database.files import create_private, create_private_directories, sync_directory
from imagekeep.database.lock import writer_lock
from imagekeep.database.revision import (
    APPLICATION_ID,
    CONTRACT,
    HEAD,
    exists,
    find_revision,
    read_schema,
    require_current,
)
from imagekeep.database.trusted_files import (
    require_no_companion,
    require_no_remains,
    require_trusted_directory,
)
from imagekeep.errors import PermissionDeniedError, StoreUnavailableError, from_os_error, printable

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from imagekeep.database.revision import Schema


def open_or_create(path: Path) -> None:
    """Ensure that there is a store of the newest revision at `path`; create one if there is no file.

    Raises SchemaVersionError for one of another revision, NotAStoreError for another file.
    """
    make_file(path)
    schema = schema_of_file(path)
    if schema.revision is None:
        _create(path)
    else:
        require_current(schema, path)


def read_revision(path: Path) -> str | None:
    """Return the revision of the file at `path`, or None; raises as `schema_of_file` does."""
    return schema_of_file(path).revision


def schema_of_file(path: Path) -> Schema:
    """Return the schema of the file at `path`; raises as `read_schema` and `connect` do."""
    with translating(path), contextlib.closing(connect(path, read_only=True)) as connection:
        return read_schema(connection.cursor(), path)


def _create(path: Path) -> None:
    """Create the newest schema in a file without one, in one transaction."""
    with (
        writer_lock(path),
        translating(path),
        contextlib.closing(connect(path)) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute(statements.BEGIN_IMMEDIATE)
        try:
            if find_revision(cursor, path) is None:  # else another process has just created it
                _create_schema(cursor)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    require_current(schema_of_file(path), path)


def _create_schema(cursor: sqlite.Cursor) -> None:
    # Only a process that creates a store needs these texts.
    from imagekeep.database import newest_schema

    cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    cursor.execute(f"PRAGMA user_version = {CONTRACT}")
    for statement in (newest_schema.VERSION_TABLE, *newest_schema.STATEMENTS, *newest_schema.FIRST_ROWS):
        cursor.execute(statement)
    cursor.execute(newest_schema.SET_REVISION, (HEAD,))


def make_file(path: Path) -> None:
    """Create an empty file if there is none: mode 0600, in a directory that is created with mode 0700.

    SQLite gives its companions the same mode. Another process may create it at the same moment. Raises
    UntrustedFileError if another user could replace it, and as `require_no_remains` does.
    """
    if exists(path):
        return
    require_trusted_directory(path)
    require_no_companion(path)
    require_no_remains(path)
    try:
        created = create_private_directories(path.absolute().parent)
        require_trusted_directory(path)  # another user may have created a part of it first
        for directory in created:
            sync_directory(directory.parent)
        with contextlib.suppress(FileExistsError):
            os.close(create_private(path))
        sync_directory(path.parent)
    except PermissionError as error:
        raise PermissionDeniedError(
            f"store {printable(path)}: {error.strerror}; choose another with --store or IMAGEKEEP_STORE"
        ) from error
    except OSError as error:
        raise from_os_error(error, f"store {printable(path)}", StoreUnavailableError) from error
