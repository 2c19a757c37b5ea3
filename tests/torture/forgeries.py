"""Files that another user puts beside a store or in its place: refused by name, never read or waited for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.driver import sqlite
from imagekeep.database.trusted_files import COMPANIONS
from tests.permissions import NOBODY
from tests.torture.children import READING
from tests.torture.orders import PLATFORM
from tests.torture.sandbox import need_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.sandbox import Sandbox


def _nobodys(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def _public(sandbox: Sandbox) -> Path:
    """Put a store into a directory like /tmp; return another one, to forge companions from."""
    need_root()
    sandbox.directory.chmod(0o1777)
    sandbox.store()
    return sandbox.store(sandbox.directory.parent / "forged.db")


def forged_log(sandbox: Sandbox) -> None:
    """Another user's -wal file without images, which SQLite would read."""
    forged = _public(sandbox)
    with Store.open(forged, platform=PLATFORM) as store:
        for reference in store.references():
            store.apply(reference, None)
        shutil.copy(f"{forged}-wal", f"{sandbox.path}-wal")
    _nobodys(sandbox.path.with_name("images.db-wal"))
    sandbox.expect_refused(words="images.db-wal: mode")
    sandbox.path.with_name("images.db-wal").unlink()
    sandbox.expect_success()
    sandbox.check()


def forged_journal(sandbox: Sandbox) -> None:
    """Another user's rollback journal, which SQLite would roll back on opening the store."""
    forged, journal = _public(sandbox), sandbox.path.with_name("images.db-journal")
    with contextlib.closing(sqlite.connect(forged, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM documents")
        connection.execute("CREATE TABLE junk AS SELECT zeroblob(400000)")
        shutil.copy(f"{forged}-journal", journal)
    _nobodys(journal)
    sandbox.expect_refused(words="images.db-journal: mode")
    journal.unlink()
    sandbox.expect_success()
    sandbox.check()


def files_made_beforehand(sandbox: Sandbox) -> None:
    """Companions created by another user, who could keep them open and read what is written."""
    _public(sandbox)
    for suffix in COMPANIONS:
        path = sandbox.path.with_name(f"images.db{suffix}")
        path.unlink(missing_ok=True)
        path.touch()
        _nobodys(path)
        sandbox.expect_refused(
            *READING, ("--source", sandbox.layout(), "sync"), words=f"images.db{suffix}: mode"
        )
        path.unlink()
    sandbox.expect_success()


def no_files_beside_it(sandbox: Sandbox) -> None:
    """A FIFO, a socket or a directory in place of a companion, which nothing may wait for."""
    sandbox.store()
    for suffix in COMPANIONS:
        path = sandbox.path.with_name(f"images.db{suffix}")
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        sandbox.expect_refused(words="a FIFO, not a file")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
        sandbox.expect_refused(*READING, words="a socket, not a file")
        path.unlink()
        path.mkdir()
        sandbox.expect_refused(*READING, words="a directory, not a file")
        path.rmdir()
    sandbox.expect_success()


def directory_for_all(sandbox: Sandbox) -> None:
    sandbox.store()
    sandbox.directory.chmod(0o777)
    sandbox.expect_refused(words="chmod o-w")
    sandbox.directory.chmod(0o755)
    sandbox.expect_success()


def second_link(sandbox: Sandbox) -> None:
    sandbox.directory.joinpath("second.db").hardlink_to(sandbox.store())
    sandbox.expect_refused(words="has 2 names")


def endless_view(sandbox: Sandbox) -> None:
    """A store with an endless view in place of a table."""
    with contextlib.closing(sqlite.connect(sandbox.store(), isolation_level=None)) as connection:
        connection.execute("DROP TABLE documents")
        connection.execute(
            "CREATE VIEW documents AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT i AS blob_key, i AS document FROM n WHERE i < 0"
        )
    sandbox.expect_refused(
        *(command for command in READING if command != ("db", "check")),
        ("--source", sandbox.layout(), "sync"),
        ("db", "migrate"),
        words="table documents is missing",
    )
    sandbox.expect_refused(("db", "check"), words="broken invariants")
