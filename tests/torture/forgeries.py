"""What another user puts beside a store or in its place: it is refused by name, and neither read nor waited for."""

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
from tests.torture.bench import need_root
from tests.torture.commands import READING
from tests.torture.orders import PLATFORM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.bench import Bench


def _nobodys(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def _public(bench: Bench) -> Path:
    """Put a store into a directory like /tmp, and another one elsewhere, whose companions are to be forged."""
    need_root()
    bench.directory.chmod(0o1777)
    bench.store()
    return bench.store(bench.directory.parent / "forged.db")


def forged_log(bench: Bench) -> None:
    """Another user's -wal file, with an image that was never pulled: SQLite would read it."""
    forged = _public(bench)
    with Store.open(forged, platform=PLATFORM) as store:
        for reference in store.references():
            store.apply(reference, None)
        shutil.copy(f"{forged}-wal", f"{bench.path}-wal")
    _nobodys(bench.path.with_name("images.db-wal"))
    bench.refused(words="images.db-wal: mode")
    bench.path.with_name("images.db-wal").unlink()
    bench.works()
    bench.whole()


def forged_journal(bench: Bench) -> None:
    """Another user's rollback journal, which the first to open the store would write back into it."""
    forged, journal = _public(bench), bench.path.with_name("images.db-journal")
    with contextlib.closing(sqlite.connect(forged, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM configs")
        connection.execute("CREATE TABLE junk AS SELECT zeroblob(400000)")
        shutil.copy(f"{forged}-journal", journal)
    _nobodys(journal)
    bench.refused(words="images.db-journal: mode")
    journal.unlink()
    bench.works()
    bench.whole()


def files_made_beforehand(bench: Bench) -> None:
    """Companions that another user made and keeps open, to read what is written to them."""
    _public(bench)
    for suffix in COMPANIONS:
        path = bench.path.with_name(f"images.db{suffix}")
        path.unlink(missing_ok=True)
        path.touch()
        _nobodys(path)
        bench.refused(*READING, ("--source", bench.layout(), "sync"), words=f"images.db{suffix}: mode")
        path.unlink()
    bench.works()


def no_files_beside_it(bench: Bench) -> None:
    """A FIFO, a socket or a directory in the place of a companion, which nothing may wait for."""
    bench.store()
    for suffix in COMPANIONS:
        path = bench.path.with_name(f"images.db{suffix}")
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        bench.refused(words="a FIFO, not a file")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
        bench.refused(*READING, words="a socket, not a file")
        path.unlink()
        path.mkdir()
        bench.refused(*READING, words="a directory, not a file")
        path.rmdir()
    bench.works()


def directory_for_all(bench: Bench) -> None:
    bench.store()
    bench.directory.chmod(0o777)
    bench.refused(words="chmod o-w")
    bench.directory.chmod(0o755)
    bench.works()


def second_link(bench: Bench) -> None:
    bench.directory.joinpath("second.db").hardlink_to(bench.store())
    bench.refused(words="has 2 names")


def endless_view(bench: Bench) -> None:
    """A store in which a view that never ends stands in the place of a table."""
    with contextlib.closing(sqlite.connect(bench.store(), isolation_level=None)) as connection:
        connection.execute("DROP TABLE configs")
        connection.execute(
            "CREATE VIEW configs AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT i AS image_key, i AS document FROM n WHERE i < 0"
        )
    bench.refused(
        *(command for command in READING if command != ("db", "check")),
        ("--source", bench.layout(), "sync"),
        ("db", "migrate"),
        words="table configs is missing",
    )
    bench.refused(("db", "check"), words="broken invariants")
