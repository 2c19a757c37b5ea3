"""Files whose writer was killed in rollback mode, as a new store is at first."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.backup import copy_store
from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create, read_revision
from imagekeep.database.driver import sqlite
from imagekeep.database.hot_journal import is_interrupted
from imagekeep.errors import StoreUnavailableError
from imagekeep.reader import Reader
from tests.database.rows import add_image, contents, opened
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from pathlib import Path


def interrupt(path: Path, at: Path) -> None:
    """Copy to `at` the file at `path` and its journal in the middle of a transaction, as after a kill."""
    with contextlib.closing(sqlite.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the transaction ends
        connection.execute("BEGIN")
        connection.execute("PRAGMA user_version = 7")
        connection.execute("CREATE TABLE junk (content BLOB)")
        connection.executemany("INSERT INTO junk VALUES (zeroblob(?))", [(3000,)] * 50)
        shutil.copy(path, at)
        shutil.copy(f"{path}-journal", f"{at}-journal")


@pytest.fixture
def export(store_path: Path, tmp_path: Path) -> Path:
    """A copy of a store with an image, in rollback mode like every copy."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    copy_store(store_path, tmp_path / "export.db")
    return tmp_path / "export.db"


@pytest.fixture
def interrupted(export: Path, tmp_path: Path) -> Path:
    """Such a copy after its writer was killed."""
    interrupt(export, tmp_path / "interrupted.db")
    return tmp_path / "interrupted.db"


def test_a_reader_sees_the_state_before_the_transaction(interrupted: Path) -> None:
    with Reader.open(interrupted) as reader:
        assert [image.references for image in reader.list()] == [("a",)]


def test_an_unfinished_transaction_is_rolled_back(interrupted: Path, store_path: Path) -> None:
    with Reader.open(interrupted):
        pass

    assert contents(interrupted) == contents(store_path)


def test_a_store_whose_creator_was_killed_is_created(tmp_path: Path) -> None:
    (tmp_path / "unborn.db").touch()
    interrupt(tmp_path / "unborn.db", tmp_path / "images.db")

    open_or_create(tmp_path / "images.db")

    assert read_revision(tmp_path / "images.db")


def test_another_programs_file_and_its_journal_are_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite.connect(tmp_path / "notes.db")) as connection:
        connection.execute("CREATE TABLE notes (text)")
    interrupt(tmp_path / "notes.db", tmp_path / "images.db")
    names = ("images.db", "images.db-journal")
    before = [(tmp_path / name).read_bytes() for name in names]

    with pytest.raises(StoreUnavailableError):
        open_or_create(tmp_path / "images.db")

    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_a_user_without_write_permission_gets_an_error(interrupted: Path, public_directory: Path) -> None:
    for name in (interrupted.name, f"{interrupted.name}-journal"):
        shutil.copy(interrupted.with_name(name), public_directory)
        (public_directory / name).chmod(0o644)
    public_directory.chmod(0o755)

    with without_privileges(), pytest.raises(StoreUnavailableError, match="imagekeep db export"):
        Reader.open(public_directory / interrupted.name)


def test_an_invalid_journal_is_ignored(export: Path) -> None:
    journal = export.with_name(f"{export.name}-journal")
    for content in (b"", b"\0" * 512):
        journal.write_bytes(content)

        assert not is_interrupted(export)
        with contextlib.closing(connect(export, read_only=True)) as connection:
            assert connection.execute("SELECT count(*) FROM images").fetchone() == (1,)


def test_a_foreign_journal_is_named(export: Path) -> None:
    export.with_name(f"{export.name}-journal").write_bytes(b"not a journal" * 100)

    with pytest.raises(StoreUnavailableError, match=r"the -journal file beside it is not imagekeep's"):
        Reader.open(export)
