"""Copies of a store's file: whole, consistent, and readable only by their owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.database.connection import connect, translating
from imagekeep.database.driver import sqlite
from imagekeep.database.files import create_private
from imagekeep.errors import (
    FailedPreconditionError,
    PermissionDeniedError,
    StoreUnavailableError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


_MOMENT = r"\.[0-9a-z]+\.[0-9]{8}T[0-9]{12}Z\.backup"
_BACKUP = re.compile(rf"(?P<store>.+){_MOMENT}")


def backup_path(path: Path, revision: str) -> Path:
    """Return the name, beside the store and with the time, of the copy made before it leaves `revision`."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return path.with_name(f"{path.name}.{revision}.{now}.backup")


def copy_store(path: Path, destination: Path) -> None:
    """Write a compact copy of the store at `path` to a new file, in one read transaction.

    The copy is in SQLite's rollback mode, so that who may not write beside it can read it; imagekeep puts it
    back into WAL mode when it opens it to write. It appears under its name when it is whole and on disk.
    Raises FailedPreconditionError where `destination` exists, StoreUnavailableError where the disk is full.
    """
    with _private_file(destination) as partial, translating(path):
        with contextlib.closing(connect(path, read_only=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        with contextlib.closing(sqlite.connect(partial, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = DELETE")


@contextlib.contextmanager
def _private_file(destination: Path) -> Iterator[Path]:
    """Give an empty file of mode 0600 to fill; put it in place when that succeeds, else remove it."""
    if destination.exists():
        raise FailedPreconditionError(f"{printable(destination)}: it exists already; give another name")
    remove_abandoned(destination)
    partial = destination.with_name(f"{destination.name}.partial-{os.getpid()}")
    descriptor = _create(partial)
    try:
        yield partial
        os.fsync(descriptor)
        # A link fails where the name has been taken meanwhile; a rename would replace what is there.
        os.link(partial, destination)
        sync_directory(destination.parent)
    except FileExistsError as error:
        raise FailedPreconditionError(f"{printable(destination)}: it exists already") from error
    finally:
        partial.unlink(missing_ok=True)
        os.close(descriptor)


def _create(partial: Path) -> int:
    """Make a file of mode 0600 that is locked for as long as this process holds it, and return its descriptor."""
    try:
        while True:
            descriptor = create_private(partial)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # it was taken for abandoned, before it was locked
    except PermissionError as error:
        raise PermissionDeniedError(f"{printable(partial)}: {error.strerror}") from error
    except OSError as error:
        raise StoreUnavailableError(f"{printable(partial)}: {error.strerror}") from error


def remove_abandoned(destination: Path) -> None:
    """Remove what copies that were killed left: partial files that no process has locked.

    That is, those of this destination, and where it is a backup also those of the same store's other backups.
    What cannot be removed is in nobody's way.
    """
    name = re.escape(destination.name)
    if backup := _BACKUP.fullmatch(destination.name):
        name = re.escape(backup["store"]) + _MOMENT
    abandoned = re.compile(rf"({name}\.partial-[0-9]+)(-journal|-wal|-shm)?")
    with contextlib.suppress(OSError):
        for entry in os.scandir(destination.parent):
            if (found := abandoned.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                _remove_unlocked(destination.with_name(found[1]), Path(entry.path))


def _remove_unlocked(partial: Path, part: Path) -> None:
    """Remove a partial file, or a part that SQLite had beside it, unless some process has the file locked."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
