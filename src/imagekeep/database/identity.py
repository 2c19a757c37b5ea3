"""Which files a store's path names: they may be moved, replaced or deleted while they are open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

FileId = tuple[int, int]
"""Device and inode. An inode that is open is not used again for another file."""


class StoreFiles(NamedTuple):
    """The files of a store; None for one that is missing, or that this user cannot reach.

    A connection keeps SQLite from removing its -wal and -shm files, so that they stay the same while it is open.
    """

    database: FileId | None
    wal: FileId | None
    shm: FileId | None

    def lost_companion_of(self, opened: StoreFiles) -> bool:
        """Return whether this is the database that was opened, without a -wal or -shm file that it had."""
        return self.database == opened.database and self != opened and None in (self.wal, self.shm)


def identify(path: Path | str) -> StoreFiles:
    """Return which files the path names now."""
    return StoreFiles(file_id(path), file_id(f"{path}-wal"), file_id(f"{path}-shm"))


def file_id(path: Path | str) -> FileId | None:
    """Return the identity of one file, without following a link; None if there is none within reach."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
