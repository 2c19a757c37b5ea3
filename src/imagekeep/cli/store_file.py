"""A store's file of whatever revision: for the commands that must work before it is migrated."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.cli.settings import require_store
from imagekeep.database.connection import connect, translating
from imagekeep.database.revision import find_revision
from imagekeep.database.statements import BEGIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite


@contextlib.contextmanager
def reading(path: Path) -> Iterator[tuple[sqlite.Connection, str | None]]:
    """Yield a connection in one read transaction, and the schema's revision, None where there is none yet.

    Raises as `require_store` and `find_revision` do, and SQLite's errors as errors of ours that name the file.
    """
    require_store(path)
    with translating(path), contextlib.closing(connect(path, read_only=True)) as connection:
        connection.execute(BEGIN)
        yield connection, find_revision(connection.cursor(), path)
