from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database.backup import backup_path, copy_store, require_same
from imagekeep.database.connection import connect
from imagekeep.database.create import make_file
from imagekeep.database.driver import translating
from imagekeep.database.trusted_files import COMPANIONS
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    StoreUnavailableError,
)
from tests import kernel
from tests.database.rows import add_image, contents, opened, schema_of
from tests.permissions import NOBODY, without_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(store_path: Path) -> Path:
    """A store with an image that fills many pages."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b", document=bytes(300_000))
    return store_path


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set one of several umasks for the test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def names_in(directory: Path) -> set[str]:
    """Return the names in a directory."""
    return {path.name for path in directory.iterdir()}


@pytest.mark.usefixtures("umask")
def test_a_copy_is_private_with_any_umask(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_is_complete(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    assert contents(tmp_path / "copy.db") == contents(store)
    assert schema_of(tmp_path / "copy.db") == schema_of(store)


def test_a_copy_keeps_the_application_id(store: Path, tmp_path: Path) -> None:
    copy_store(store, tmp_path / "copy.db")

    with opened(tmp_path / "copy.db") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x696D6B70,)


def test_a_copy_has_what_is_committed_and_nothing_else(store: Path, tmp_path: Path) -> None:
    with opened(store) as writer:
        add_image(writer, 2, "c", document=b"committed, and only in the -wal file yet")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM images")
        copy_store(store, tmp_path / "copy.db")
        writer.execute("ROLLBACK")

    assert [key for key, *_ in contents(tmp_path / "copy.db")["images"]] == [1, 2]


def test_a_copy_has_no_companions(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()

    copy_store(store, tmp_path / "copies" / "copy.db")

    assert names_in(tmp_path / "copies") == {"copy.db"}


def test_a_copy_is_readable_in_a_read_only_directory(store: Path, public_directory: Path) -> None:
    copy = public_directory / "copy.db"
    copy_store(store, copy)
    os.chown(copy, NOBODY if os.geteuid() == 0 else -1, -1)
    public_directory.chmod(0o555)

    with without_privileges(), contextlib.closing(connect(copy, read_only=True)) as reader:
        assert reader.execute("SELECT count(*) FROM images").fetchone() == (1,)


def test_a_store_is_not_readable_in_a_read_only_directory(store: Path, public_directory: Path) -> None:
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


def test_existing_files_are_never_overwritten(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")

    with pytest.raises(FailedPreconditionError, match=r"copy\.db already exists; choose another name"):
        copy_store(store, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_dangling_link_is_never_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FailedPreconditionError):
        copy_store(store, tmp_path / "copy.db")
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_store_leaves_no_copy(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        copy_store(tmp_path / "images.db", tmp_path / "copy.db")
    assert not names_in(tmp_path)


def test_a_missing_directory_is_an_error_that_names_it(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"missing/copy\.db"):
        copy_store(store, tmp_path / "missing" / "copy.db")


def test_a_directory_without_permission_is_a_specific_error(store: Path, public_directory: Path) -> None:
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


def run(program: str, *arguments: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in its own process."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


NAMES = [
    "file:copy.db",
    "file:copy.db?mode=memory",
    ":memory:",
    "copy?mode=ro.db",
    "copy%20.db",
    "copy#1.db",
    "line\nbreak.db",
    "it's.db",
    "ünïcödé.db",
    os.fsdecode(b"latin-\xe9.db"),
    " ",
    "-journal",
    "x" * 255,
    "directory/../copy.db",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_with_any_name_is_complete_and_private(store: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "copies"
    (directory / "directory").mkdir(parents=True)

    copy_store(store, directory / name)

    (directory / "directory").rmdir()
    (copy,) = directory.iterdir()
    assert copy.name == Path(name).name
    assert copy.stat().st_mode & 0o777 == 0o600
    assert contents(copy.rename(directory / "renamed.db")) == contents(store)


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 200 and "/" not in name])
def test_a_store_with_any_name_can_be_backed_up(store: Path, tmp_path: Path, name: str) -> None:
    copy_store(store, tmp_path / name)

    copy_store(tmp_path / name, copy := backup_path(tmp_path / name, "0003"))

    assert contents(copy) == contents(store)


def test_a_relative_path_that_looks_like_a_uri_is_a_file(store: Path, tmp_path: Path) -> None:
    copying = "import sys; from pathlib import Path; from imagekeep.database.backup import copy_store\n"
    (tmp_path / "here").mkdir()

    done = subprocess.run(
        [sys.executable, "-c", f"{copying}copy_store(Path(sys.argv[1]), Path('file:copy.db'))", str(store)],
        cwd=tmp_path / "here",
        check=True,
    )

    assert done.returncode == 0
    assert names_in(tmp_path / "here") == {"file:copy.db"}
    assert contents(tmp_path / "here" / "file:copy.db") == contents(store)


COPY = """
import os, sys
from pathlib import Path
from imagekeep.database.backup import copy_store
copy_store(Path(sys.argv[1]), Path(os.fsdecode(bytes.fromhex(sys.argv[2]))))
"""


@pytest.mark.parametrize("name", ["ünïcödé.db".encode(), b"latin-\xe9.db"])
def test_a_copys_name_has_the_same_bytes_in_every_locale(store: Path, tmp_path: Path, name: bytes) -> None:
    destination = os.fsencode(tmp_path) + b"/" + name

    done = run(COPY, store, destination.hex(), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    assert done.returncode == 0, done.stderr
    assert contents(Path(os.fsdecode(destination))) == contents(store)


def test_a_copy_can_have_a_path_too_long_for_sqlite(store: Path, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200)
    directory.mkdir(parents=True)

    copy_store(store, directory / "copy.db")

    assert names_in(directory) == {"copy.db"}
    shutil.move(directory / "copy.db", tmp_path / "copy.db")
    assert contents(tmp_path / "copy.db") == contents(store)


@pytest.mark.parametrize(
    ("name", "error"),
    [("x" * 256, StoreUnavailableError), ("nul\0.db", InvalidArgumentError), (".", FailedPreconditionError)],
)
def test_an_impossible_file_name_is_refused(
    store: Path, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        copy_store(store, tmp_path / name)


@pytest.mark.parametrize("suffix", COMPANIONS)
def test_a_copy_is_not_written_where_it_would_be_taken_for_a_part_of_a_database(
    store: Path, suffix: str
) -> None:
    companion = store.with_name(f"{store.name}{suffix}")
    companion.unlink(missing_ok=True)

    with pytest.raises(InvalidArgumentError, match="would be taken for a part of"):
        copy_store(store, companion)
    assert not companion.exists()
    with pytest.raises(InvalidArgumentError, match="would be taken for a part of"):
        make_file(companion)


def test_a_copy_may_end_like_a_companion_of_nothing(store: Path, tmp_path: Path) -> None:
    for name in ("another-wal", "-wal", f"{tmp_path.name}-journal"):
        copy_store(store, tmp_path / name)


COPY_ON_ANOTHER_FILE_SYSTEM = """
import sys
from pathlib import Path
from tests import kernel
from imagekeep.database.backup import copy_store
getattr(kernel, sys.argv[3])()
for attempt in "first", "second":
    try:
        copy_store(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        print(attempt, type(error).__name__)
"""


@pytest.mark.skipif(not kernel.NUMBERS, reason="the numbers of this machine's system calls are not known")
@pytest.mark.parametrize(
    "kind",
    [
        "without_exclusive_renames",
        "without_hard_links",
        "without_links_or_exclusive_renames",
        "without_links_or_modes",
    ],
)
def test_a_copy_needs_no_hard_links_and_still_overwrites_nothing(
    store: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "copies").mkdir()
    copy = tmp_path / "copies" / "copy.db"

    done = run(COPY_ON_ANOTHER_FILE_SYSTEM, store, copy, kind)

    assert (done.stdout, done.stderr) == ("second FailedPreconditionError\n", "")
    assert names_in(copy.parent) == {"copy.db"}
    assert (copy.stat().st_mode & 0o777, copy.stat().st_nlink) == (0o600, 1)
    assert contents(copy) == contents(store)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770])
def test_sqlite_writes_no_copy_where_others_can_rename_its_directory(
    store: Path, tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, written = tmp_path / "shared", []
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setattr("imagekeep.database.backup.require_same", lambda copy, *_: written.append(copy))

    copy_store(store, shared / "copy.db")

    assert not written[0].is_relative_to(shared)
    assert names_in(shared) == {"copy.db"}
    shared.chmod(0o700)  # a store is not read from where others can replace it
    assert contents(shared / "copy.db") == contents(store)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777])
def test_a_copy_is_written_beside_its_destination_if_that_is_safe(
    store: Path, tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, written = tmp_path / "shared", []
    shared.mkdir()
    shared.chmod(mode)
    monkeypatch.setattr("imagekeep.database.backup.require_same", lambda copy, *_: written.append(copy))

    copy_store(store, shared / "copy.db")

    assert written[0].is_relative_to(shared)


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM images", "UPDATE alembic_version SET version_num = '0001'", "DELETE FROM alembic_version"],
)
def test_a_copy_that_differs_from_the_store_gets_no_name(
    store: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_compare(copy: Path, *arguments: Any) -> None:
        with opened(copy) as connection:
            connection.execute(change)
        require_same(copy, *arguments)

    monkeypatch.setattr("imagekeep.database.backup.require_same", change_and_compare)
    (tmp_path / "copies").mkdir()

    with pytest.raises(CorruptStoreError, match=r"its copy has other rows|alembic_version is empty"):
        copy_store(store, tmp_path / "copies" / "copy.db")
    assert not names_in(tmp_path / "copies")


@pytest.mark.parametrize("revision", ["../../etc/cron.d/x", "0003\0", "\x1b[31m", "9999", "x" * 300, ""])
def test_only_a_known_revision_becomes_part_of_a_name(tmp_path: Path, revision: str) -> None:
    assert backup_path(tmp_path / "images.db", revision).name.startswith("images.db.unknown.")


def test_a_store_with_the_longest_name_has_a_backup(tmp_path: Path) -> None:
    backup = backup_path(tmp_path / ("ö" * 123 + ".db"), "0003")

    backup.touch()
    assert backup.name.startswith("ö" * 100)


def test_backups_of_one_revision_have_distinct_names(tmp_path: Path) -> None:
    names = {backup_path(tmp_path / "images.db", "0001").name for _ in range(3)}

    assert len(names) == 3
    assert all(name.startswith("images.db.0001.") and name.endswith(".backup") for name in names)
