"""Puts a copy of a store back into its place.

To copy the file over would be wrong: what the old store's -wal file still holds would be read into the copy, and
who has the old store open would go on with it. SQLite's own backup writes the copy's pages into the store in one
transaction instead, so that readers see the one or the other, and a crash leaves the one or the other.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.connection import BUSY_WAIT, connect, translating
from imagekeep.database.driver import sqlite
from imagekeep.database.lock import lock_references, writer_lock
from imagekeep.database.revision import exists, find_revision, require_known
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotAStoreError,
    NotFoundError,
    StoreBusyError,
    printable,
)

if TYPE_CHECKING:
    from pathlib import Path


def restore_store(path: Path, copy: Path) -> Path | None:
    """Make the store at `path` what `copy` is; return where it is kept what it was, or None where there was none.

    Raises NotFoundError where there is no such copy; NotAStoreError, SchemaVersionError or CorruptStoreError for
    what can be no store's copy; InvalidArgumentError for the store itself; FailedPreconditionError where a store
    that is gone left its -wal file behind; and as `copy_store` and `writing` do. The store is then what it was.
    """
    with translating(copy), contextlib.closing(_open_whole(copy)) as source:
        if not exists(path):
            _require_no_log(path)
            copy_store(copy, path)
            return None
        if path.samefile(copy):
            raise InvalidArgumentError(f"{printable(copy)}: it is the store itself")
        with lock_references(path, None), writer_lock(path), translating(path):
            kept = _keep(path)
            try:
                with contextlib.closing(connect(path)) as store:
                    source.backup(store, progress=_raise_if_busy)
            except BaseException:
                kept.unlink()  # the store is what it was: a copy of each try would fill the disk
                raise
    return kept


def _open_whole(copy: Path) -> sqlite.Connection:
    """Open a copy whose pages SQLite finds in order, and whose schema is one that this imagekeep knows."""
    if not exists(copy):
        raise NotFoundError(f"no such file: {printable(copy)}")
    connection = connect(copy, read_only=True)
    try:
        revision = find_revision(connection.cursor(), copy)
        if revision is None:
            raise NotAStoreError(f"{printable(copy)}: an empty database, and no copy of a store")
        require_known(revision, copy)
        ((found, *_), *_) = connection.execute("PRAGMA integrity_check(1)")
        if found != "ok":
            raise CorruptStoreError(
                f"{printable(copy)}: it is damaged ({printable(found)}); take another copy"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _require_no_log(path: Path) -> None:
    """Refuse to make a store beside the -wal file of one that is gone: SQLite would read it into this one."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise FailedPreconditionError(
            f"{printable(log)}: it belongs to a store that is not there; move it to where that is"
        )


def _keep(path: Path) -> Path:
    """Copy the store as it is before it becomes another one."""
    with contextlib.closing(connect(path, read_only=True)) as connection:
        kept = backup_path(path, find_revision(connection.cursor(), path))
    try:
        copy_store(path, kept)
    except CorruptStoreError as error:
        raise CorruptStoreError(
            f"store {printable(path)}: damaged, so that no copy of it can be kept; move it away together with "
            "its -wal and -shm files, and restore again"
        ) from error
    return kept


def _raise_if_busy(status: int, remaining: int, total: int) -> None:
    """Give up where another program still holds the store after the time that SQLite waits; it asks for ever."""
    if status in (sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED):
        raise StoreBusyError(f"another program held the store for more than {BUSY_WAIT:g} s; try again")
