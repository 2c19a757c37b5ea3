"""Whether a process was killed while it wrote a store's file in SQLite's rollback mode.

A store is in WAL mode, where a reader needs no help after a crash. But when its file is made, or a copy is opened
to write for the first time, the file is put into WAL mode, and that one step takes a rollback journal. Who finds
such a journal, of a writer that is no more, has to write what it keeps back into the file before reading.

Only the journal is looked at: opening and closing the store's file itself would drop the locks that another
connection of this process has on it (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

from imagekeep.database.revision import APPLICATION_ID
from imagekeep.database.trusted_files import look, user_name
from imagekeep.errors import StoreUnavailableError, printable

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = struct.Struct(">8sIIIII")
"""Magic, records, nonce, pages before, sector size, page size (https://sqlite.org/fileformat2.html, 3)."""

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_LARGEST = 65_536
"""The most bytes that a sector or a page has."""

_APPLICATION_ID = slice(68, 72)


def is_interrupted(path: Path) -> bool:
    """Return whether a rollback journal lies beside the file of a store, or beside one that was still empty.

    False for another program's file, which is not ours to touch. SQLite itself tells whether the journal's
    writer is still at work.
    """
    try:
        # Not blocking: to open a FIFO would wait for a writer.
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
    """Raise StoreUnavailableError if an interrupted write is another user's: what it left is not to be believed.

    A reader that is root would otherwise write what that user has put into a journal.
    """
    store = look(str(path))
    if store is not None and store.status.st_uid != os.geteuid():
        owner = user_name(store.status.st_uid)
        raise StoreUnavailableError(
            f"store {printable(path)}: a write by {owner} was interrupted (run `imagekeep images` as {owner}, or "
            "read a copy that `imagekeep db export` makes)"
        )
