from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.connection import connect, translating
from imagekeep.errors import (
    FailedPreconditionError,
    PermissionDeniedError,
    StoreUnavailableError,
)
from tests.database.rows import add_image, contents, opened, schema_of
from tests.permissions import NOBODY, without_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(store_path: Path) -> Path:
    """A store with an image that fills many pages."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b", document=bytes(300_000))
    return store_path


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each of some umasks, set for the test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names_in(directory: Path) -> set[str]:
    """Return the names of what is in a directory."""
    return {path.name for path in directory.iterdir()}


@pytest.mark.usefixtures("umask")
def test_a_copy_is_its_owners_alone_whatever_the_umask(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_is_whole(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    assert contents(tmp_path / "copy.db") == contents(store)
    assert schema_of(tmp_path / "copy.db") == schema_of(store)


def test_a_copy_keeps_the_mark_of_a_store(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    with opened(tmp_path / "copy.db") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x696D6B70,)


def test_a_copy_holds_what_is_committed_and_nothing_else(store: Path, tmp_path: Path) -> None:
    with opened(store) as writer:
        add_image(writer, 2, "c", document=b"committed, and only in the -wal file yet")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM images")
        copy_store(store, tmp_path / "copy.db")
        writer.execute("ROLLBACK")

    assert [key for key, *_ in contents(tmp_path / "copy.db")["images"]] == [1, 2]


def test_nothing_stands_beside_a_copy(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()

    copy_store(store, tmp_path / "copies" / "copy.db")

    assert names_in(tmp_path / "copies") == {"copy.db"}


def test_a_copy_is_read_where_nothing_may_be_written(store: Path, public_directory: Path) -> None:
    copy = public_directory / "copy.db"
    copy_store(store, copy)
    os.chown(copy, NOBODY if os.geteuid() == 0 else -1, -1)
    public_directory.chmod(0o555)

    with without_privileges(), contextlib.closing(connect(copy, read_only=True)) as reader:
        assert reader.execute("SELECT count(*) FROM images").fetchone() == (1,)


def test_a_store_itself_is_not_read_where_nothing_may_be_written(store: Path, public_directory: Path) -> None:
    path = public_directory / "images.db"
    shutil.move(store, path)
    os.chown(path, NOBODY if os.geteuid() == 0 else -1, -1)
    public_directory.chmod(0o555)

    with (
        without_privileges(),
        contextlib.closing(connect(path, read_only=True)) as reader,
        pytest.raises(StoreUnavailableError, match=r"read-only; .* `imagekeep db export`"),
        translating(path),
    ):
        reader.execute("SELECT count(*) FROM images")


def test_what_is_there_is_never_overwritten(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")

    with pytest.raises(FailedPreconditionError, match=r"copy\.db: it exists already; give another name"):
        copy_store(store, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_link_that_points_nowhere_is_never_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FailedPreconditionError):
        copy_store(store, tmp_path / "copy.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_store_that_is_missing_leaves_no_copy(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        copy_store(tmp_path / "images.db", tmp_path / "copy.db")
    assert not names_in(tmp_path)


def test_a_directory_that_is_missing_is_an_error_that_names_it(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"missing/copy\.db"):
        copy_store(store, tmp_path / "missing" / "copy.db")


def test_a_directory_without_permission_is_an_error_of_its_own(store: Path, public_directory: Path) -> None:
    public_directory.chmod(0o555)

    with without_privileges(), pytest.raises(PermissionDeniedError, match=r"copy\.db"):
        copy_store(store, public_directory / "copy.db")


COPY_BEYOND_A_LIMIT = """
import resource, sys
from pathlib import Path
from imagekeep.database.backup import copy_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
copy_store(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_full_disk_leaves_nothing_behind(store: Path, tmp_path: Path) -> None:
    before = names_in(tmp_path)

    failed = subprocess.run(
        [sys.executable, "-c", COPY_BEYOND_A_LIMIT, str(store), str(tmp_path / "copy.db")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "StoreUnavailableError" in failed.stderr
    assert names_in(tmp_path) - {f"{store.name}-wal", f"{store.name}-shm"} == before


def test_backups_of_one_revision_have_names_of_their_own(tmp_path: Path) -> None:
    names = {backup_path(tmp_path / "images.db", "0001").name for _ in range(3)}

    assert len(names) == 3
    assert all(name.startswith("images.db.0001.") and name.endswith(".backup") for name in names)
