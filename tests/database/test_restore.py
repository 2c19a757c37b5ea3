"""Restoring a copy of a store."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database import restore
from imagekeep.database.backup import copy_store
from imagekeep.database.check import find_problems
from imagekeep.database.create import read_revision
from imagekeep.database.restore import restore_store
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    NotAStoreError,
    NotFoundError,
    SchemaVersionError,
    StoreBusyError,
)
from imagekeep.store import Store
from tests.database.rows import add_image, contents, opened, schema_of
from tests.database.stores import STORES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(store_path: Path) -> Path:
    with opened(store_path) as connection:
        add_image(connection, 1, "old", document=bytes(300_000))
    return store_path


@pytest.fixture
def backup(store: Path, tmp_path: Path) -> Path:
    """Return a copy of the store, which has changed since."""
    copy_store(store, tmp_path / "copy")
    with opened(store) as connection:
        add_image(connection, 2, "new", document=b"other")
    return tmp_path / "copy"


def rows(path: Path) -> dict[str, list[Any]]:
    """Return every row of a store except its id, which a restored store does not share with the copy."""
    return {table: found for table, found in contents(path).items() if table != "identity"}


def store_id(path: Path) -> str:
    return str(contents(path)["identity"][0][1])


def assert_refused(store: Path, copy: Path, kind: type[ImagekeepError]) -> None:
    """Assert that a copy is refused, and that nothing in the directory changes."""
    before, names = contents(store), {path.name for path in store.parent.iterdir()}
    with pytest.raises(kind):
        restore_store(store, copy)
    assert contents(store) == before
    assert {path.name for path in store.parent.iterdir()} - names <= {f"{store.name}-lock"}


def test_the_restored_store_equals_the_copy(store: Path, backup: Path) -> None:
    restore_store(store, backup)
    assert rows(store) == rows(backup)


def test_a_restored_store_has_its_own_id(store: Path, backup: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "first")
    restore_store(store, backup)
    restore_store(tmp_path / "new", backup)
    ids = {store_id(path) for path in (store, backup, tmp_path / "new")}
    assert len(ids) == 3
    assert store_id(tmp_path / "first") == store_id(backup)


def test_a_copy_without_an_id_gets_one(store: Path, backup: Path) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("DELETE FROM identity")
    restore_store(store, backup)
    with opened(store) as connection:
        assert not [problem for problem in find_problems(connection) if problem.table == "identity"]


def test_a_copy_without_a_revision_is_named_as_damaged(store: Path, backup: Path) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    assert_refused(store, backup, CorruptStoreError)
    with pytest.raises(CorruptStoreError, match="table alembic_version is empty"):
        Store.open(backup)


def test_a_copy_of_an_older_revision_is_restored(store: Path, tmp_path: Path) -> None:
    shutil.copyfile(STORES / "0001.db", tmp_path / "old")
    restore_store(store, tmp_path / "old")
    assert read_revision(store) == "0001"


def test_nothing_is_left_beside_the_store_after_a_restore(store: Path, backup: Path) -> None:
    before = {path.name for path in store.parent.iterdir()}
    kept = restore_store(store, backup)
    assert kept is not None
    companions = {f"{store.name}-lock", f"{store.name}-wal", f"{store.name}-shm"}
    assert {path.name for path in store.parent.iterdir()} - before - companions == {kept.name}


def test_a_restore_keeps_a_backup_of_the_previous_store(store: Path, backup: Path) -> None:
    before = contents(store)
    kept = restore_store(store, backup)
    assert kept is not None
    assert contents(kept) == before


def test_processes_with_the_store_open_see_the_copy(store: Path, backup: Path) -> None:
    with Store.open(store) as open_store:
        assert set(open_store.references()) == {"old", "new"}
        restore_store(store, backup)
        assert open_store.references() == ["old"]
        assert open_store.delete(open_store.resolve("old"), "old")


def test_a_killed_writers_wal_is_not_applied_to_the_copy(store: Path, backup: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    with opened(store) as connection:
        add_image(connection, 3, "later", document=b"third")
        for companion in ("", "-wal"):
            shutil.copy(f"{store}{companion}", killed / f"{store.name}{companion}")
    restore_store(killed / store.name, backup)
    assert rows(killed / store.name) == rows(backup)


def test_restoring_without_a_store_creates_a_private_one(backup: Path, tmp_path: Path) -> None:
    assert restore_store(tmp_path / "fresh", backup) is None
    assert rows(tmp_path / "fresh") == rows(backup)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o600


def test_the_wal_of_a_deleted_store_is_not_applied_to_the_copy(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "gone-wal").write_bytes(b"log")
    with pytest.raises(FailedPreconditionError, match="gone-wal"):
        restore_store(tmp_path / "gone", backup)
    assert not (tmp_path / "gone").exists()


def test_a_damaged_copy_is_refused(store: Path, backup: Path) -> None:
    with backup.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(bytes(5000))
    assert_refused(store, backup, CorruptStoreError)


def test_a_copy_of_a_newer_schema_is_refused(store: Path, backup: Path) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert_refused(store, backup, SchemaVersionError)


def test_another_programs_database_is_refused(store: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as connection, connection:
        connection.execute("CREATE TABLE mine (a)")
    assert_refused(store, tmp_path / "other", NotAStoreError)


HOSTILE = {
    "table images is missing": [
        "DROP TABLE images",
        "CREATE VIEW images AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n)"
        " SELECT n AS image_key, 'x' AS id, '' AS chain_id, 0 AS size FROM n",
    ],
    "trigger mine is not imagekeep's": [
        "CREATE TRIGGER mine AFTER INSERT ON images BEGIN DELETE FROM reference_history; END"
    ],
    "trigger reference_history_is_not_shortened is missing": [
        "DROP TRIGGER reference_history_is_not_shortened"
    ],
    "view image_list is changed": ["DROP VIEW image_list", "CREATE VIEW image_list AS SELECT 1 AS id"],
    "table watcher is changed": ["ALTER TABLE watcher ADD COLUMN more TEXT"],
}


@pytest.mark.parametrize("difference", HOSTILE)
@pytest.mark.parametrize("fresh", [False, True], ids=["into a store", "into no store"])
def test_a_copy_with_another_schema_is_refused_naming_the_object(
    store: Path, backup: Path, tmp_path: Path, difference: str, fresh: bool
) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for statement in HOSTILE[difference]:
            connection.execute(statement)
        connection.commit()
    path = tmp_path / "fresh" if fresh else store
    before = None if fresh else contents(store)
    with pytest.raises(CorruptStoreError, match=difference):
        restore_store(path, backup)
    assert path.exists() is not fresh
    assert before is None or contents(store) == before


@pytest.mark.parametrize("page_size", [512, 8192, 65_536])
def test_a_copy_with_another_page_size_is_restored(store: Path, backup: Path, page_size: int) -> None:
    with contextlib.closing(sqlite3.connect(backup, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA page_size").fetchone() == (page_size,)
    restore_store(store, backup)
    assert rows(store) == rows(backup)


RESTORE_BEYOND_A_LIMIT = """
import resource, sys
from pathlib import Path
from imagekeep.database import restore
keep = restore._back_up
def limit_after_keeping(path):
    kept = keep(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    return kept
restore._back_up = limit_after_keeping
restore.restore_store(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_full_disk_is_reported_and_changes_nothing(store: Path, backup: Path) -> None:
    before, names = contents(store), {path.name for path in store.parent.iterdir()}
    failed = subprocess.run(
        [sys.executable, "-c", RESTORE_BEYOND_A_LIMIT, str(store), str(backup)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "StoreUnavailableError" in failed.stderr.splitlines()[-1]
    assert "UTF-8" not in failed.stderr
    assert contents(store) == before
    companions = {f"{store.name}-lock", f"{store.name}-wal", f"{store.name}-shm"}
    assert {path.name for path in store.parent.iterdir()} - names <= companions


def test_a_copy_with_an_added_index_is_restored(store: Path, backup: Path) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        connection.execute("CREATE INDEX by_size ON images (size)")
        connection.execute("ANALYZE")
    restore_store(store, backup)
    assert "index by_size" in schema_of(store)


def test_a_copy_changed_after_its_check_is_not_restored(
    store: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(backup)
    keep = restore._back_up  # noqa: SLF001 - the last step before the pages are written

    def change_and_keep(path: Path) -> Path:
        with opened(backup) as connection:
            connection.execute("DELETE FROM images")
        return keep(path)

    monkeypatch.setattr(restore, "_back_up", change_and_keep)
    restore_store(store, backup)
    assert rows(store) == expected


def test_a_dump_of_a_store_is_recognized(store: Path, backup: Path, tmp_path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(backup)) as source,
        contextlib.closing(sqlite3.connect(tmp_path / "dump")) as target,
    ):
        for line in source.iterdump():
            with contextlib.suppress(sqlite3.Error):
                target.execute(line)
    with pytest.raises(NotAStoreError, match=r"like a copy made by sqlite3's \.dump"):
        restore_store(store, tmp_path / "dump")


def test_an_empty_file_is_not_a_copy(store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert_refused(store, tmp_path / "empty", NotAStoreError)


def test_a_missing_copy_is_not_found(store: Path, tmp_path: Path) -> None:
    assert_refused(store, tmp_path / "nowhere", NotFoundError)


def test_the_store_cannot_be_restored_from_itself(store: Path) -> None:
    assert_refused(store, store, InvalidArgumentError)


def test_a_damaged_store_is_not_overwritten(store: Path, backup: Path) -> None:
    with store.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(bytes(5000))
    damaged = store.read_bytes()
    with pytest.raises(CorruptStoreError, match="move it away"):
        restore_store(store, backup)
    assert store.read_bytes() == damaged


def test_another_writing_program_is_not_waited_for_forever(
    store: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.database.connection.BUSY_WAIT", 0.01)
    with opened(store) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert_refused(store, backup, StoreBusyError)
