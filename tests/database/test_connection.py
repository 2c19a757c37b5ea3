from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite, translating
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    ImagekeepError,
    NotAStoreError,
    PermissionDeniedError,
    StoreBusyError,
    StoreUnavailableError,
)
from tests.database.rows import add_image, opened
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL = 2
PAGE = 4096


@pytest.fixture
def writer(store_path: Path) -> Iterator[sqlite.Connection]:
    """A connection to write."""
    with opened(store_path) as connection:
        yield connection


@pytest.fixture
def reader(store_path: Path) -> Iterator[sqlite.Connection]:
    """A connection to read."""
    with contextlib.closing(connect(store_path, read_only=True)) as connection:
        yield connection


def value(connection: sqlite.Connection, pragma: str) -> object:
    """Return the value of a pragma."""
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [
        ("foreign_keys", 1),
        ("synchronous", FULL),
        ("journal_mode", "wal"),
        ("journal_size_limit", 64 * 1024 * 1024),
        ("cell_size_check", 1),
        ("busy_timeout", 5000),
    ],
)
def test_a_writer_has_every_pragma(writer: sqlite.Connection, pragma: str, expected: object) -> None:
    assert value(writer, pragma) == expected


def test_a_reader_detects_damaged_pages_when_reading_them(reader: sqlite.Connection) -> None:
    assert value(reader, "cell_size_check") == 1


def test_no_connection_trusts_the_schema(reader: sqlite.Connection, writer: sqlite.Connection) -> None:
    # SQLite 3.40 considers its own JSON functions, which the views call, unsafe.
    trusted = int(sqlite.sqlite_version_info < (3, 41))

    assert value(reader, "trusted_schema") == value(writer, "trusted_schema") == trusted


def test_a_reader_cannot_write(reader: sqlite.Connection, store_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="read-only"), translating(store_path):
        reader.execute("DELETE FROM images")


def test_no_transaction_begins_implicitly(writer: sqlite.Connection) -> None:
    writer.execute("DELETE FROM images")

    assert not writer.in_transaction


def test_another_thread_may_close_a_connection(store_path: Path) -> None:
    connection = connect(store_path)

    closer = threading.Thread(target=connection.close)
    closer.start()
    closer.join()

    with pytest.raises(FailedPreconditionError), translating(store_path):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("name", ["a b?mode=ro#x%41.db", "größe.db", "-x.db", "a'b\"c\n.db", "\udcff.db"])
def test_a_file_name_is_used_literally(store_path: Path, name: str) -> None:
    store_path.rename(store_path.with_name(name))

    with opened(store_path.with_name(name)) as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (0,)
    assert [path.name for path in store_path.parent.iterdir()] == [name]


def test_the_companions_of_a_store_are_private(store_path: Path) -> None:
    store_path.chmod(0o600)
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
        modes = {path.name: path.stat().st_mode & 0o777 for path in store_path.parent.iterdir()}

    assert modes == {"images.db": 0o600, "images.db-wal": 0o600, "images.db-shm": 0o600}


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot open it"):
        connect(tmp_path / "images.db")
    assert not list(tmp_path.iterdir())


def test_an_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=f"^store {tmp_path}/images.db: "):
        connect(tmp_path / "images.db")


def test_a_name_in_an_error_is_escaped(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        connect(tmp_path / "\x1b[2J.db")
    assert "\x1b" not in str(caught.value)


def test_a_text_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "images.db"
    path.write_text("some notes, not a database\n" * 100)

    with pytest.raises(NotAStoreError, match="not a SQLite database"):
        connect(path)


def test_a_damaged_page_is_a_corrupt_store(store_path: Path) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'images'").fetchone()
    content = bytearray(store_path.read_bytes())
    content[(page - 1) * PAGE : page * PAGE] = b"\xa5" * PAGE
    store_path.write_bytes(content)

    with (
        pytest.raises(CorruptStoreError, match="the file is damaged"),
        opened(store_path) as connection,
        translating(store_path),
    ):
        connection.execute("SELECT * FROM images").fetchall()


def test_a_missing_table_is_a_corrupt_store(writer: sqlite.Connection, store_path: Path) -> None:
    with pytest.raises(CorruptStoreError, match="imagekeep db check"), translating(store_path):
        writer.execute("SELECT * FROM no_such_table")


def test_a_row_that_violates_a_constraint_is_a_corrupt_store(
    writer: sqlite.Connection, store_path: Path
) -> None:
    with pytest.raises(CorruptStoreError, match="images_id_is_a_digest"), translating(store_path):
        writer.execute("INSERT INTO images VALUES (1, 'x', '', 0, 0, 1)")


def test_a_lock_held_by_another_is_a_busy_store(writer: sqlite.Connection, store_path: Path) -> None:
    writer.execute("PRAGMA busy_timeout = 0")
    with opened(store_path) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreBusyError, match="another program held it"), translating(store_path):
            writer.execute("BEGIN IMMEDIATE")


def test_a_database_that_cannot_grow_is_unavailable(writer: sqlite.Connection, store_path: Path) -> None:
    writer.execute(f"PRAGMA max_page_count = {value(writer, 'page_count')}")

    with pytest.raises(StoreUnavailableError, match="the disk is full"), translating(store_path):
        add_image(writer, 1, "a", document=bytes(100_000))


def test_an_interrupted_statement_is_unavailable(writer: sqlite.Connection, store_path: Path) -> None:
    writer.set_progress_handler(lambda: 1, 1)

    with pytest.raises(StoreUnavailableError, match="interrupted"), translating(store_path):
        writer.execute("SELECT count(*) FROM images, documents").fetchall()


def test_an_unreadable_file_is_named(public_directory: Path, store_path: Path) -> None:
    path = store_path.rename(public_directory / "images.db")
    path.chmod(0)

    with (
        without_privileges(),
        pytest.raises(PermissionDeniedError, match=r"not readable by this user; .* export"),
    ):
        connect(path, read_only=True)


WRITE_BEYOND_A_LIMIT = """
import resource, sys
from pathlib import Path
from imagekeep.database.connection import connect
from imagekeep.database.driver import translating
path = Path(sys.argv[1])
connection = connect(path)
connection.execute("CREATE TABLE junk (content BLOB)")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with translating(path):
    connection.execute("INSERT INTO junk VALUES (zeroblob(1000000))")
"""


def test_a_full_disk_is_unavailable_and_changes_nothing(store_path: Path) -> None:
    failed = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_A_LIMIT, str(store_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "StoreUnavailableError" in failed.stderr
    assert "nothing was changed" in failed.stderr
    with opened(store_path) as connection:
        assert connection.execute("SELECT count(*) FROM junk").fetchone() == (0,)


def test_an_error_of_python_passes_unchanged(store_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), translating(store_path):
        _ = 1 / 0


def test_a_translated_error_keeps_its_cause(tmp_path: Path) -> None:
    with pytest.raises(ImagekeepError) as caught:
        connect(tmp_path / "images.db")
    assert isinstance(caught.value.__cause__, sqlite.OperationalError)


@pytest.mark.parametrize("text", ["61c561", "c5" * 100])
def test_text_that_is_not_utf8_is_a_corrupt_store_and_is_not_quoted(
    writer: sqlite.Connection, store_path: Path, text: str
) -> None:
    with (
        pytest.raises(CorruptStoreError, match=r"not UTF-8; restore a backup, or remove it and sync again$"),
        translating(store_path),
    ):
        writer.execute(f"SELECT CAST(x'{text}' AS TEXT)").fetchall()
