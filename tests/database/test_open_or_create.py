from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.database import newest_schema
from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create, read_revision
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import APPLICATION_ID, HEAD, find_revision
from imagekeep.errors import (
    CorruptStoreError,
    ImagekeepError,
    NotAStoreError,
    PermissionDeniedError,
    SchemaVersionError,
    StoreUnavailableError,
)
from tests.database.rows import add_image, opened
from tests.database.stores import backups_of, foreign
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Callable


def set_revision(path: Path, revision: str) -> None:
    """Set a store's revision by hand."""
    with opened(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_store_is_created_at_the_newest_revision(path: Path) -> None:
    open_or_create(path)

    assert read_revision(path) == HEAD


def test_a_new_store_has_the_application_id(path: Path) -> None:
    open_or_create(path)

    with opened(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_new_store_and_its_directory_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_or_create(tmp_path / "directory" / "images.db")
    finally:
        os.umask(before)

    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in (tmp_path / "directory").iterdir()} == {0o600}


def test_reopening_a_store_changes_nothing(store_path: Path) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    before = store_path.read_bytes()

    open_or_create(store_path)

    assert store_path.read_bytes() == before


def test_creating_a_store_makes_no_backup(path: Path) -> None:
    open_or_create(path)

    assert not backups_of(path)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()

    open_or_create(path)

    assert read_revision(path) == HEAD


CREATE_TOGETHER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from imagekeep.database.create import open_or_create, read_revision
print("ready", flush=True)
sys.stdin.readline()
open_or_create(Path(sys.argv[1]))
print(read_revision(Path(sys.argv[1])))
"""


def test_processes_that_create_one_store_concurrently_all_get_it(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_TOGETHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    answers = [process.communicate() for process in processes]

    assert answers == [(f"{HEAD}\n", "")] * len(processes)


@pytest.mark.parametrize("same", [True, False], ids=["one store", "a store each"])
def test_threads_create_stores_concurrently(tmp_path: Path, same: bool) -> None:
    barrier = threading.Barrier(6)

    def make(number: int) -> str | None:
        path = tmp_path / f"{0 if same else number}.db"
        barrier.wait()
        open_or_create(path)
        return read_revision(path)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(make, range(6))) == [HEAD] * 6


IN_AN_ENVIRONMENT = """
from alembic import context
from pathlib import Path
from sqlalchemy import create_engine
from imagekeep import Store
Store.open(context.get_x_argument(as_dictionary=True)["store"]).close()
with create_engine("sqlite://").connect() as connection:
    context.configure(connection=connection)
    context.run_migrations()
"""

A_REVISION = """
from alembic import context, op
from imagekeep import Store
revision, down_revision = "a", None
def upgrade():
    op.execute("CREATE TABLE theirs (a)")
    Store.open(context.get_x_argument(as_dictionary=True)["store"] + "2").close()
    op.execute("CREATE TABLE more (a)")
"""


def test_a_store_can_be_created_during_another_programs_migration(path: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "versions").mkdir(parents=True)
    (tmp_path / "theirs" / "env.py").write_text(IN_AN_ENVIRONMENT)
    (tmp_path / "theirs" / "versions" / "a.py").write_text(A_REVISION)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = theirs\npath_separator = os\n")

    moved = subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"store={path}", "upgrade", "head"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert moved.returncode == 0, moved.stderr
    assert read_revision(path) == read_revision(Path(f"{path}2")) == HEAD


@pytest.mark.parametrize("statement", [3, 9, 20])
def test_a_store_whose_creation_failed_is_created_by_the_next_attempt(
    path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    broken = (*newest_schema.STATEMENTS[:statement], "CREATE TABLE images (a)")
    with monkeypatch.context() as patched:
        patched.setattr(newest_schema, "STATEMENTS", broken)
        with pytest.raises(CorruptStoreError):
            open_or_create(path)
    assert read_revision(path) is None

    open_or_create(path)

    assert read_revision(path) == HEAD


def test_a_store_created_during_the_check_is_not_another_programs(path: Path) -> None:
    path.touch()
    seen = []

    def make_before_the_second(statement: str) -> None:
        seen.append(statement)
        if len(seen) == 2:
            migrate(path)

    with contextlib.closing(connect(path, read_only=True)) as connection:
        connection.set_trace_callback(make_before_the_second)
        assert find_revision(connection.cursor(), path) is None
    assert len(seen) >= 2


def test_a_newer_schema_is_refused_naming_both_revisions(store_path: Path) -> None:
    set_revision(store_path, "0999")

    with pytest.raises(SchemaVersionError, match=f"revision 0999, newer than {HEAD}"):
        open_or_create(store_path)


def test_a_newer_schema_is_not_migrated(store_path: Path) -> None:
    set_revision(store_path, "0999")
    before = store_path.read_bytes()

    with pytest.raises(SchemaVersionError, match=f"revision 0999, newer than {HEAD}"):
        migrate(store_path)
    assert store_path.read_bytes() == before


def test_an_older_schema_is_refused_with_the_command_that_migrates_it(old: Path) -> None:
    before = old.read_bytes()

    with pytest.raises(SchemaVersionError) as caught:
        open_or_create(old)
    assert f"its schema is revision 0001, this imagekeep needs {HEAD}" in str(caught.value)
    assert f"`imagekeep --store {old} db migrate`" in str(caught.value)
    assert old.read_bytes() == before


OTHER_PROGRAMS = {
    "tables": ["CREATE TABLE notes (text)"],
    "a mark": ["PRAGMA application_id = 252006674"],
    "a mark and tables": ["PRAGMA application_id = 252006674", "CREATE TABLE notes (text)"],
    "alembic's table": ["CREATE TABLE alembic_version (version_num)"],
    "WAL mode": ["PRAGMA journal_mode = WAL", "CREATE TABLE notes (text)"],
}


@pytest.mark.parametrize("statements", OTHER_PROGRAMS.values(), ids=OTHER_PROGRAMS)
@pytest.mark.parametrize("open_it", [open_or_create, migrate])
def test_the_database_of_another_program_is_refused_and_untouched(
    path: Path, statements: list[str], open_it: Callable[[Path], object]
) -> None:
    foreign(path, *statements)
    before = path.read_bytes()

    with pytest.raises(NotAStoreError, match="another program's database"):
        open_it(path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused_and_untouched(path: Path) -> None:
    path.write_text("notes\n" * 1000)

    with pytest.raises(NotAStoreError, match="not a SQLite database"):
        open_or_create(path)
    assert path.read_text() == "notes\n" * 1000


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="not a file"):
        open_or_create(tmp_path)


@pytest.mark.parametrize("target", ["images.db", "nowhere.db"])
def test_a_symbolic_link_is_refused_and_not_followed(store_path: Path, target: str) -> None:
    link = store_path.with_name("link.db")
    link.symlink_to(store_path.with_name(target))
    before = set(store_path.parent.iterdir())

    with pytest.raises(NotAStoreError, match="a symbolic link"):
        open_or_create(link)
    assert set(store_path.parent.iterdir()) == before


@pytest.mark.parametrize("size", [1, 99, 100, 512, 4095, 4096, 8192, 20_000])
def test_a_truncated_store_is_refused_and_untouched(store_path: Path, size: int) -> None:
    os.truncate(store_path, size)
    before = store_path.read_bytes()

    with pytest.raises((CorruptStoreError, NotAStoreError)):
        open_or_create(store_path)
    assert store_path.read_bytes() == before


def test_a_name_with_a_nul_is_an_imagekeep_error() -> None:
    with pytest.raises(ImagekeepError):
        open_or_create(Path("images\0.db"))


def test_a_path_below_a_file_is_an_error_that_names_it(store_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"images\.db/images\.db"):
        open_or_create(store_path / "images.db")


def test_a_directory_without_permission_says_how_to_choose_another(public_directory: Path) -> None:
    public_directory.chmod(0o555)

    with without_privileges(), pytest.raises(PermissionDeniedError, match="--store or IMAGEKEEP_STORE"):
        open_or_create(public_directory / "images.db")
