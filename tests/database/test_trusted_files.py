"""Files that another user could have made are never opened, and nothing but files is waited for."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagekeep import Reader, Store
from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create
from imagekeep.database.driver import sqlite
from imagekeep.database.files import LONGEST_PATH, look
from imagekeep.database.trusted_files import COMPANIONS, require_trusted
from imagekeep.errors import (
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    NotAStoreError,
    StoreUnavailableError,
    UntrustedFileError,
)
from imagekeep.internals import apply_all
from tests.database.rows import add_image, contents, opened
from tests.permissions import NOBODY, without_privileges

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
Opening = Callable[[Path], Reader]
both = pytest.mark.parametrize("open_it", [Reader.open, Store.open])


@pytest.fixture
def public_store(public_directory: Path, store_template: Path) -> Path:
    """Return a store in a directory where anyone may create files, like /tmp."""
    path = public_directory / "images.db"
    shutil.copy(store_template, path)
    return path


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must end on its own."""
    return subprocess.run(
        [sys.executable, "-m", "imagekeep", "--store", str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# --- not a file


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def make_link(path: Path) -> None:
    path.symlink_to("elsewhere")


def make_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


KINDS = {
    "FIFO": make_fifo,
    "socket": make_socket,
    "directory": Path.mkdir,
    "symbolic link": make_link,
    "character device": pytest.param(make_device, marks=needs_root),
}


@pytest.mark.parametrize("suffix", COMPANIONS)
@pytest.mark.parametrize(("kind", "make"), [(k, getattr(m, "values", [m])[0]) for k, m in KINDS.items()])
def test_a_companion_that_is_not_a_file_hangs_no_command(
    store_path: Path, suffix: str, kind: str, make: Callable[[Path], None]
) -> None:
    if make is make_device and os.geteuid():
        pytest.skip("making a device needs root")
    make(beside(store_path, suffix))

    for arguments in (["images"], ["db", "backup"]):
        done = command(store_path, *arguments)
        assert done.returncode == 125
        assert f"images.db{suffix}: a {kind}, not a file (run `rm -r " in done.stderr


@pytest.mark.parametrize("make", [make_fifo, make_socket, Path.mkdir])
def test_a_lock_that_is_not_a_file_is_not_waited_for(path: Path, make: Callable[[Path], None]) -> None:
    make(beside(path, "-lock"))

    with pytest.raises(UntrustedFileError, match=r"another\.db-lock: a .* not a file"):
        open_or_create(path)


# --- more than one name


@both
def test_a_store_with_a_second_link_is_refused(store_path: Path, open_it: Opening) -> None:
    beside(store_path, ".second").hardlink_to(store_path)

    with pytest.raises(NotAStoreError, match=r"images\.db: has 2 names, .*find -samefile"):
        open_it(store_path)


@pytest.mark.parametrize("suffix", COMPANIONS)
def test_a_companion_with_a_second_link_is_refused(store_path: Path, suffix: str) -> None:
    beside(store_path, suffix).touch(0o600)
    beside(store_path, ".second").hardlink_to(beside(store_path, suffix))

    with pytest.raises(UntrustedFileError, match=f"images.db{suffix}: has 2 names"):
        Reader.open(store_path)


@pytest.mark.parametrize("suffix", ["", *COMPANIONS])
def test_a_mounted_file_is_refused(store_path: Path, suffix: str) -> None:
    source, target = beside(store_path, ".source"), beside(store_path, suffix)
    shutil.copy(store_path, source)
    target.touch()
    if subprocess.run(["mount", "--bind", source, target], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(FailedPreconditionError, match=f"images.db{suffix}: mounted by itself"):
            connect(store_path)
    finally:
        subprocess.run(["umount", target], check=True)


def test_a_mounted_directory_is_accepted(store_path: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", tmp_path, mounted], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        Reader.open(mounted / store_path.name).close()
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_link_to_a_directory_on_another_mount_is_fine(store_path: Path, tmp_path: Path) -> None:
    mounted, link = tmp_path / "mounted", tmp_path / "link"
    mounted.mkdir()
    link.symlink_to(mounted)
    if subprocess.run(
        ["mount", "--bind", store_path.parent, mounted], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting needs root")
    try:
        Reader.open(link / store_path.name).close()
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_file_that_is_mounted_after_an_opening_is_refused(store_path: Path, tmp_path: Path) -> None:
    Reader.open(store_path).close()
    other = tmp_path / "other.db"
    shutil.copy(store_path, other)
    if subprocess.run(["mount", "--bind", other, store_path], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(NotAStoreError, match="mounted by itself"):
            Reader.open(store_path)
    finally:
        subprocess.run(["umount", store_path], check=True)


# --- other users' directories


@both
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_world_writable_directory_is_refused(tmp_path: Path, above: int, open_it: Opening) -> None:
    path = tmp_path / "a" / "b" / "images.db"
    Store.open(path).close()
    open_to_all = path.parents[above]
    open_to_all.chmod(0o777)

    with pytest.raises(UntrustedFileError) as caught:
        open_it(path)
    assert f"{open_to_all}: every user can write to it: mode 0777, owner " in str(caught.value)
    assert f"(run `chmod o-w {open_to_all}`" in str(caught.value)


def test_no_store_is_created_in_a_world_writable_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(UntrustedFileError, match="every user can write to it"):
        Store.open(tmp_path / "new" / "images.db")
    assert not (tmp_path / "new").exists()


def test_a_link_to_a_world_writable_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a" / "images.db"
    Store.open(path).close()
    (tmp_path / "link").symlink_to("a")
    Reader.open(tmp_path / "link" / "images.db").close()
    path.parent.chmod(0o777)

    with pytest.raises(UntrustedFileError, match="every user can write to it"):
        Reader.open(tmp_path / "link" / "images.db")


@both
def test_a_sticky_directory_with_the_owners_files_is_accepted(public_store: Path, open_it: Opening) -> None:
    open_it(public_store).close()
    open_it(public_store).close()  # with its companions


@needs_root
def test_another_users_directory_is_refused(store_path: Path) -> None:
    os.chown(store_path.parent, NOBODY, NOBODY)

    with pytest.raises(UntrustedFileError, match=r"owner nobody, who can replace the store .*chown root"):
        Reader.open(store_path)


@needs_root
def test_a_directory_writable_by_a_shared_group_is_refused(store_path: Path) -> None:
    store_path.parent.chmod(0o775)
    Reader.open(store_path).close()  # root's own group
    os.chown(store_path.parent, 0, 54321)

    with pytest.raises(UntrustedFileError, match=r"group 54321 can write to it: mode 0775, .*chmod g-w"):
        Reader.open(store_path)


@needs_root
def test_a_directory_writable_by_a_private_group_is_accepted(store_path: Path) -> None:
    for file in (store_path, store_path.parent):
        os.chown(file, NOBODY, NOBODY)
    store_path.parent.chmod(0o770)

    Reader.open(store_path).close()


@needs_root
def test_root_reads_and_writes_another_users_store(public_directory: Path, store_template: Path) -> None:
    path = public_directory / "nobodys" / "images.db"
    path.parent.mkdir(mode=0o700)
    shutil.copy(store_template, path)
    for file in (path, path.parent):
        os.chown(file, NOBODY, NOBODY)

    with Store.open(path) as store:
        apply_all(store, {}, failures={"a": StoreUnavailableError("why")})
        owners = {file.name: file.stat().st_uid for file in path.parent.iterdir()}

    assert owners == dict.fromkeys(owners, NOBODY)
    with without_privileges(), Reader.open(path) as reader:
        assert [one.reference for one in reader.incomplete()] == ["a"]


OPEN = "import sys; from imagekeep import Reader; Reader.open(sys.argv[1]).close()"


@needs_root
@pytest.mark.parametrize(("above", "works"), [(0, False), (1, True)])
def test_directories_above_may_belong_to_the_host_of_a_container(
    tmp_path: Path, above: int, works: bool
) -> None:
    path = tmp_path / "host" / "own" / "images.db"
    Store.open(path).close()
    path.parents[above].chmod(0o755)
    os.chown(path.parents[above], 54321, 54321)
    container = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("making a user namespace is not permitted")

    done = subprocess.run(
        [*container, sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=False
    )

    assert ("who can replace the store" not in done.stderr) == works
    assert (done.returncode == 0) == works
    with pytest.raises(UntrustedFileError, match="owner 54321, who can replace the store"):
        Reader.open(path)


# --- other users' files


@needs_root
@both
@pytest.mark.parametrize("suffix", COMPANIONS)
def test_another_users_companion_is_refused(public_store: Path, suffix: str, open_it: Opening) -> None:
    companion = beside(public_store, suffix)
    companion.touch(0o666)
    os.chown(companion, NOBODY, NOBODY)

    with pytest.raises(UntrustedFileError) as caught:
        open_it(public_store)
    assert f"{companion}: mode 0644, owner nobody, but the store is root's" in str(caught.value)
    assert f"(run `rm {companion}`)" in str(caught.value)


@needs_root
def test_a_store_that_another_user_may_have_put_there_is_not_written(public_store: Path) -> None:
    os.chown(public_store, NOBODY, NOBODY)

    Reader.open(public_store).close()
    with (
        Store.open(public_store) as store,
        pytest.raises(UntrustedFileError, match="anyone may have made it"),
    ):
        apply_all(store, {}, failures={})


@both
@pytest.mark.parametrize("suffix", ["", *COMPANIONS])
def test_a_world_writable_file_is_refused(store_path: Path, suffix: str, open_it: Opening) -> None:
    beside(store_path, suffix).touch()
    beside(store_path, suffix).chmod(0o666)

    with pytest.raises(
        UntrustedFileError, match=rf"images\.db{suffix}: every user can write to it: mode 0666"
    ):
        open_it(store_path)


def forged_log(path: Path, at: Path) -> None:
    """Put the -wal file of another store, with an additional image, beside `at`."""
    forged = at.with_name("forged.db")
    shutil.copy(path, forged)
    with opened(forged) as connection:
        add_image(connection, 1, "evil.example/pwned")
        shutil.copy(beside(forged, "-wal"), beside(at, "-wal"))
    for suffix in ("", *COMPANIONS):
        beside(forged, suffix).unlink(missing_ok=True)


@needs_root
def test_a_forged_wal_is_not_read(public_store: Path) -> None:
    forged_log(public_store, public_store)
    with Reader.open(public_store) as reader:  # SQLite itself trusts it
        assert reader.references() == ["evil.example/pwned"]
    beside(public_store, "-shm").unlink(missing_ok=True)
    os.chown(beside(public_store, "-wal"), NOBODY, NOBODY)

    done = command(public_store, "images")

    assert (done.returncode, done.stdout) == (125, "")
    assert "images.db-wal: mode" in done.stderr


def interrupted(path: Path, journal: Path) -> None:
    """Leave a journal like a killed writer, which the next opening would roll back into `path`."""
    connection = sqlite.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.execute("PRAGMA user_version = 7")
    connection.execute("CREATE TABLE junk (content BLOB)")
    connection.executemany("INSERT INTO junk VALUES (zeroblob(?))", [(3000,)] * 50)
    shutil.copy(beside(path, "-journal"), journal)
    connection.execute("COMMIT")
    connection.close()


@needs_root
@both
def test_a_forged_journal_is_not_rolled_back(public_store: Path, open_it: Opening) -> None:
    interrupted(public_store, public_store.with_name("forged"))
    public_store.with_name("forged").rename(beside(public_store, "-journal"))
    os.chown(beside(public_store, "-journal"), NOBODY, NOBODY)
    before = public_store.read_bytes()

    with pytest.raises(UntrustedFileError, match=r"images\.db-journal: mode"):
        open_it(public_store)
    assert public_store.read_bytes() == before


@needs_root
def test_root_reading_another_users_store_does_not_roll_it_back(public_store: Path) -> None:
    interrupted(public_store, public_store.with_name("left"))
    public_store.with_name("left").rename(beside(public_store, "-journal"))
    for file in (public_store, beside(public_store, "-journal")):
        os.chown(file, NOBODY, NOBODY)
    before = public_store.read_bytes()

    with pytest.raises(StoreUnavailableError, match="a write by nobody was interrupted"):
        Reader.open(public_store)
    assert public_store.read_bytes() == before


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_in_a_shared_directory_no_companion_can_be_created_after_the_check(
    public_store: Path, read_only: bool, suffix: str
) -> None:
    require_trusted(public_store, look(str(public_store)), writing=not read_only)

    made = beside(public_store, suffix).stat()
    assert (made.st_uid, made.st_mode & 0o777) == (os.geteuid(), public_store.stat().st_mode & 0o777)


@pytest.mark.parametrize("rollback_mode", [True, False])
def test_sqlite_ignores_the_empty_companions(public_store: Path, rollback_mode: bool) -> None:
    with opened(public_store) as connection:
        add_image(connection, 1, "a")
        if rollback_mode:
            connection.execute("PRAGMA journal_mode = DELETE")

    for _ in range(2):
        with Reader.open(public_store) as reader:
            assert reader.references() == ["a"]
    with Store.open(public_store) as store:
        apply_all(store, {}, failures={"b": ImagekeepError("why")})
        assert store.references() == ["a"]


def test_no_companion_is_created_in_a_private_directory(store_path: Path) -> None:
    require_trusted(store_path, look(str(store_path)), writing=True)

    assert [file.name for file in store_path.parent.iterdir() if file.is_file()] == ["images.db"]


# --- files left by a deleted store


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_no_store_is_created_beside_the_files_of_a_deleted_one(path: Path, suffix: str) -> None:
    beside(path, suffix).write_bytes(b"frames")

    with pytest.raises(
        FailedPreconditionError, match=f"another.db{suffix}: belongs to a store that is missing"
    ):
        Store.open(path)
    assert [file.name for file in path.parent.iterdir()] == [beside(path, suffix).name]


@pytest.mark.parametrize("open_it", [Reader.open, Store.open])
def test_an_empty_store_does_not_delete_the_wal_of_another(path: Path, open_it: Opening) -> None:
    path.touch(0o600)
    beside(path, "-wal").write_bytes(b"frames")

    with pytest.raises(FailedPreconditionError, match=r"another\.db-wal: belongs to a store that is missing"):
        open_it(path)
    assert beside(path, "-wal").read_bytes() == b"frames"


def test_an_empty_wal_is_ignored(path: Path) -> None:
    beside(path, "-wal").touch(0o600)

    Store.open(path).close()
    assert contents(path)


# --- new directories, and long paths


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_each_new_directory_is_private(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a" / "b" / "c" / "images.db"
    before = os.umask(umask)
    try:
        Store.open(path).close()
    finally:
        os.umask(before)

    assert [parent.stat().st_mode & 0o7777 for parent in list(path.parents)[:3]] == [0o700] * 3


def test_existing_directories_keep_their_modes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)

    Store.open(tmp_path / "a" / "b" / "images.db").close()

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def of_length(directory: Path, length: int) -> Path:
    """Return a path of a given length in bytes."""
    while (left := length - len(os.fsencode(directory))) > 200:
        directory /= "d" * 99
    return directory / ("f" * (left - 1))


@both
@pytest.mark.parametrize("length", [LONGEST_PATH + 1, 600, 3000])
def test_a_path_that_sqlite_cannot_open_is_named(tmp_path: Path, length: int, open_it: Opening) -> None:
    with pytest.raises(InvalidArgumentError, match=f"path of {length} bytes; SQLite opens at most 504"):
        open_it(of_length(tmp_path, length))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_path_works(tmp_path: Path) -> None:
    path = of_length(tmp_path, LONGEST_PATH)

    with Store.open(path) as store:
        apply_all(store, {}, failures={"a": ImagekeepError("why")})
    with Reader.open(path) as reader:
        assert len(reader.incomplete()) == 1


def test_checking_the_files_drops_no_lock(store_path: Path) -> None:
    """Closing a descriptor of the store would drop SQLite's locks in this process."""
    with opened(store_path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        Reader.open(store_path).close()
        connect(store_path).close()
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from imagekeep.database.driver import sqlite\n"
                "c = sqlite.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
                "try: c.execute('BEGIN IMMEDIATE')\n"
                "except sqlite.OperationalError as error: print(error)",
                str(store_path),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    assert other.stdout == "database is locked\n"
