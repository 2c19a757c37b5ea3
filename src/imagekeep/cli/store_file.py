"""A store's file of whatever revision: for the commands that must work before it is migrated."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.database.connection import connect, translating
from imagekeep.database.revision import exists, find_revision
from imagekeep.database.statements import BEGIN
from imagekeep.errors import StoreUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite


def require_file(path: Path) -> None:
    """Raise StoreUnavailableError where there is no file, and NotAStoreError where it can be no store."""
    if not exists(path):
        raise StoreUnavailableError(f"no store at {printable(path)}; `imagekeep sync` makes one")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[tuple[sqlite.Connection, str | None]]:
    """Give a connection in one read transaction, and the schema's revision, None where there is none yet.

    Raises as `require_file` and `find_revision` do, and SQLite's errors as errors of ours that name the file.
    """
    require_file(path)
    with translating(path), contextlib.closing(connect(path, read_only=True)) as connection:
        connection.execute(BEGIN)
        yield connection, find_revision(connection.cursor(), path)
