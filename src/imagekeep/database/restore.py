"""Restores a store from a copy.

Copying the file over the store would be wrong: SQLite would read the old store's -wal file into the copy, and
processes that have the old store open would keep using it. SQLite's backup writes the copy's pages into the
store in one transaction instead: a reader sees, and a crash leaves, either the old store or the new.

The copy is not trusted. It is first copied to a private file, which nobody else can change; that file is checked,
gets a new store id, and becomes the store.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.database import statements, status_statements
from imagekeep.database.backup import backup_path, copy_store, new_file, scratch_file
from imagekeep.database.connection import connect
from imagekeep.database.driver import BUSY_WAIT, sqlite, translating
from imagekeep.database.lock import lock_references, writer_lock
from imagekeep.database.revision import (
    exists,
    expected_objects,
    find_revision,
    read_schema,
    require_known,
    require_unchanged,
)
from imagekeep.database.trusted_files import require_no_remains
from imagekeep.errors import (
    CorruptStoreError,
    InvalidArgumentError,
    NotAStoreError,
    NotFoundError,
    StoreBusyError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from pathlib import Path

_PAGE_SIZE = 4096
"""Bytes of a page of a new store: SQLite's default. SQLite's backup needs pages of one size."""


def restore_store(path: Path, copy: Path) -> Path | None:
    """Replace the store at `path` with `copy`; return the backup of the previous store, if there was one.

    Raises NotFoundError if the copy does not exist; NotAStoreError, SchemaVersionError or CorruptStoreError if
    it is not the copy of a store; InvalidArgumentError for the store itself; FailedPreconditionError if a store
    that is gone left its -wal file; and as `copy_store`, `lock_references` and `writer_lock`. The store is then
    unchanged.
    """
    if not exists(copy):
        raise NotFoundError(f"no such file: {printable(copy)}")
    if not exists(path):
        require_no_remains(path)
        with new_file(path) as partial:
            _stage(partial, copy, _PAGE_SIZE)
        return None
    if path.samefile(copy):
        raise InvalidArgumentError(f"{printable(copy)} is the store itself; give a copy of it")
    with translating(path), contextlib.closing(connect(path, read_only=True)) as store:
        page_size: int = store.execute(statements.PAGE_SIZE).fetchone()[0]
    with scratch_file(path) as partial:
        _stage(partial, copy, page_size)
        with lock_references(path, None), writer_lock(path):
            return _replace(path, partial)


def _stage(partial: Path, copy: Path, page_size: int) -> None:
    """Copy a copy to a private file, check it, and give it a new store id."""
    with translating(copy):
        with contextlib.closing(connect(copy, read_only=True)) as source:
            _require_ours(source, copy)  # before its pages fill the disk
            source.execute(statements.set_page_size(page_size))
            source.execute(statements.VACUUM_INTO, (partial.as_uri(),))
        with contextlib.closing(connect(partial, read_only=True)) as staged:
            revision = _require_ours(staged, copy)
            ((found, *_), *_) = staged.execute(statements.INTEGRITY_CHECK)
            if found != "ok":
                raise CorruptStoreError(f"{printable(copy)}: damaged ({printable(found)}); use another copy")
        with contextlib.closing(connect(partial)) as staged:
            if "table identity" in expected_objects(revision):
                staged.execute(status_statements.RENEW_STORE_ID)
            staged.execute(statements.ROLLBACK_MODE)


def _require_ours(connection: sqlite.Connection, copy: Path) -> str:
    """Return the revision of a copy; raise unless its schema is the revision's."""
    schema = read_schema(connection.cursor(), copy)
    if schema.revision is None:
        raise NotAStoreError(f"{printable(copy)}: an empty database, not a copy of a store")
    require_known(schema.revision, copy)
    require_unchanged(schema, copy)
    return schema.revision


def _replace(path: Path, partial: Path) -> Path:
    """Write the pages of a private file into the store; return the backup of the previous store."""
    with translating(path):
        kept = _back_up(path)
        try:
            with (
                contextlib.closing(connect(partial, read_only=True)) as staged,
                contextlib.closing(connect(path)) as store,
            ):
                _copy_pages(staged, store, path)
        except BaseException:
            kept.unlink()  # the store has not changed, and a backup of each try would fill the disk
            raise
    return kept


def _back_up(path: Path) -> Path:
    with contextlib.closing(connect(path, read_only=True)) as connection:
        kept = backup_path(path, find_revision(connection.cursor(), path))
    try:
        copy_store(path, kept)
    except CorruptStoreError as error:
        raise CorruptStoreError(
            f"store {printable(path)}: damaged, so no backup of it can be made; move it away together with its "
            "-wal and -shm files, and restore again"
        ) from error
    return kept


def _copy_pages(staged: sqlite.Connection, store: sqlite.Connection, path: Path) -> None:
    """Write one database into another, in one transaction."""
    try:
        staged.backup(store, progress=_raise_if_busy)
    except sqlite.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):
            raise
        # pysqlite3 gives no code here, only SQLite's words.
        raise StoreUnavailableError(
            f"store {printable(path)}: cannot be written: {error}; nothing was changed"
        ) from error


def _raise_if_busy(status: int, _remaining: int, _total: int) -> None:
    """Raise StoreBusyError if the file is still locked after SQLite's own wait: the driver would retry for ever."""
    if status in (sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED):
        raise StoreBusyError(f"locked by another program for more than {BUSY_WAIT:g} s; retry, or stop it")
