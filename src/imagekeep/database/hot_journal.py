"""Finds what a process left that was killed while it wrote a store's file in SQLite's rollback mode.

A store is in WAL mode, so a reader needs no help after a crash. But creating a file, or opening a copy to write
for the first time, puts it into WAL mode, and that step uses a rollback journal. If the writer was killed then,
the journal has to be rolled back before anything is read. Only the journal is read to find that out: closing the
store's file would drop the locks of this process's other connections (https://sqlite.org/howtocorrupt.html,
2.2).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from imagekeep.database.files import look, user_name
from imagekeep.database.revision import APPLICATION_ID
from imagekeep.errors import StoreUnavailableError, printable

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = struct.Struct(">8sIIIII")
"""Magic, records, nonce, pages before, sector size, page size (https://sqlite.org/fileformat2.html, 3)."""

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_LARGEST = 65_536
"""Bytes of the largest sector or page."""

_APPLICATION_ID = slice(68, 72)


def is_interrupted(path: Path) -> bool:
    """Return whether there is a rollback journal of a store, or of a file that was empty before.

    Another program's journal is left alone. SQLite itself finds out whether the journal's writer is still running.
    """
    try:
        # Not blocking: opening a FIFO would wait for a writer.
        descriptor = os.open(f"{path}-journal", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as journal:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            header = journal.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return False
            magic, _, _, pages_before, sector, page = _HEADER.unpack(header)
            if magic != _MAGIC or max(sector, page) > _LARGEST:
                return False
            journal.seek(sector + 4)
            first_page = journal.read(page)
    except (OSError, ValueError):
        return False
    return pages_before == 0 or first_page[_APPLICATION_ID] == APPLICATION_ID.to_bytes(4)


def has_foreign_journal(path: Path) -> bool:
    """Return whether there is a rollback journal that no write to a store has left."""
    found = look(f"{path}-journal")
    return found is not None and found.status.st_size > 0 and not is_interrupted(path)


def require_rolled_back_by_owner(path: Path) -> None:
    """Raise StoreUnavailableError if the interrupted write is another user's.

    Root would otherwise write into the store whatever that user has put into a journal.
    """
    store = look(str(path))
    if store is not None and store.status.st_uid != os.geteuid():
        owner = user_name(store.status.st_uid)
        raise StoreUnavailableError(
            f"store {printable(path)}: a write by {owner} was interrupted (run `imagekeep images` as {owner}, or "
            "read a copy that `imagekeep db export` makes)"
        )
