"""A file whose writer was killed in SQLite's rollback mode, as a store is before its first writer's end."""

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
    """Copy to `at` what a kill leaves of the file at `path` and of its journal, in the middle of a transaction."""
    with contextlib.closing(sqlite.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # pages are written before the transaction ends
        connection.execute("BEGIN")
        connection.execute("PRAGMA user_version = 7")
        connection.execute("CREATE TABLE junk (content BLOB)")
        connection.executemany("INSERT INTO junk VALUES (zeroblob(?))", [(3000,)] * 50)
        shutil.copy(path, at)
        shutil.copy(f"{path}-journal", f"{at}-journal")


@pytest.fixture
def export(store_path: Path, tmp_path: Path) -> Path:
    """A copy of a store with an image, in rollback mode as every copy."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    copy_store(store_path, tmp_path / "export.db")
    return tmp_path / "export.db"


@pytest.fixture
def interrupted(export: Path, tmp_path: Path) -> Path:
    """What is left of such a copy whose writer was killed."""
    interrupt(export, tmp_path / "interrupted.db")
    return tmp_path / "interrupted.db"


def test_a_reader_finds_what_was_there_before(interrupted: Path) -> None:
    with Reader.open(interrupted) as reader:
        assert [image.references for image in reader.list()] == [("a",)]


def test_what_was_begun_is_undone(interrupted: Path, store_path: Path) -> None:
    with Reader.open(interrupted):
        pass

    assert contents(interrupted) == contents(store_path)


def test_a_store_whose_maker_was_killed_is_made(tmp_path: Path) -> None:
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


def test_who_may_not_write_there_is_told_so(interrupted: Path, public_directory: Path) -> None:
    for name in (interrupted.name, f"{interrupted.name}-journal"):
        shutil.copy(interrupted.with_name(name), public_directory)
        (public_directory / name).chmod(0o644)
    public_directory.chmod(0o755)

    with without_privileges(), pytest.raises(StoreUnavailableError, match="imagekeep db export"):
        Reader.open(public_directory / interrupted.name)


def test_a_journal_that_is_none_is_not_minded(export: Path) -> None:
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
