"""Which files a store's path names: they may be moved, replaced or deleted while they are open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FileId = tuple[int, int, int]
"""Device, inode and number of names. An inode that is open is not used again for another file.

A file that gets a second name is another one: a program that opens it by that name has other companions.
"""


class StoreFiles(NamedTuple):
    """The files of a store; None for one that is missing, or that this user cannot reach.

    The database is None too if it is empty. A connection keeps SQLite from removing its -wal and -shm files, so
    that they stay the same while it is open.
    """

    database: FileId | None
    wal: FileId | None
    shm: FileId | None

    def lacks_only_companions_of(self, opened: StoreFiles) -> bool:
        """Return whether of what was opened only a -wal or -shm file is missing, with nothing in its place."""
        return (
            self.database == opened.database
            and self.wal in (opened.wal, None)
            and self.shm in (opened.shm, None)
        )


def identify(path: Path | str) -> StoreFiles:
    """Return which files the path names now."""
    name = str(path)
    return StoreFiles(file_id(name, or_empty=False), file_id(name + "-wal"), file_id(name + "-shm"))


def has_lost_wal(path: Path, opened: StoreFiles) -> bool:
    """Return whether the -wal file that was opened lost its name, and nothing was written to a new one."""
    now = identify(path)
    if opened.wal is None or (now.database, opened.wal) == (opened.database, now.wal):
        return False
    return now.database == opened.database and not _size(f"{path}-wal")


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def file_id(path: Path | str, *, or_empty: bool = True) -> FileId | None:
    """Return the identity of one file, without following a link; None if there is none within reach."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return file_id_of(found) if found.st_size or or_empty else None


def file_id_of(status: os.stat_result) -> FileId:
    """Return the identity of the file that has a status."""
    return status.st_dev, status.st_ino, status.st_nlink
