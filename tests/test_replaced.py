"""Stores whose files are moved, replaced or deleted while they are open.

What is acknowledged is found by a process that opens the path; anything else is an error that has a name.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep import (
    ImagekeepError,
    NotAStoreError,
    Reader,
    Store,
    StoreReplacedError,
    StoreUnavailableError,
    Transition,
)
from imagekeep.database.backup import copy_store
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.driver import DRIVER
from imagekeep.database.kept import CHECK_INTERVAL
from imagekeep.internals import data_version
from tests.forking import Forked
from tests.model import IMAGES, PLATFORM
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME, OTHER, THIRD = (
    "docker.io/library/busybox:1",
    "docker.io/library/busybox:2",
    "docker.io/library/busybox:3",
)
ONE, TWO, THREE = IMAGES[:3]
COMPANIONS = ("-wal", "-shm")
WAIT = 30.0


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path, platform=PLATFORM) as opened:
        opened.apply(NAME, ONE)
        opened.list()
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another store with another reference, which nothing has open."""
    path = tmp_path / "other.db"
    with Store.open(path, platform=PLATFORM) as opened:
        opened.apply(OTHER, TWO)
    return path


def references_at(path: Path) -> set[str]:
    """Return the references that another process reads at a path."""
    with Worker() as worker:
        worker.open(path)
        return set(worker.ask(Store.references))


def problems_of(path: Path) -> list[str]:
    with contextlib.closing(connect(path, read_only=True)) as connection:
        return [str(problem) for problem in find_problems(connection)]


def remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def soon(action: Callable[[], object], expected: object) -> None:
    """Wait until an action has the expected result: a reader checks its files every CHECK_INTERVAL."""
    deadline = time.monotonic() + CHECK_INTERVAL + WAIT
    while (answer := _answer(action)) != expected:
        assert time.monotonic() < deadline, answer


def _answer(action: Callable[[], object]) -> object:
    try:
        return action()
    except ImagekeepError as error:
        return type(error)


def replace(path: Path, other: Path) -> None:
    """Replace a store with another, and remove its companions."""
    remove(path, *COMPANIONS)
    other.replace(path)


def restore(path: Path, other: Path) -> None:
    """Restore a copy as an operator would."""
    remove(path, "", *COMPANIONS)
    subprocess.run(
        [sys.executable, "-m", "imagekeep", "--store", path, "db", "restore", other],
        check=True,
        capture_output=True,
    )


def replace_directory(path: Path, other: Path) -> None:
    """Replace the store's directory with another."""
    directory = path.parent.with_name("another")
    directory.mkdir()
    shutil.move(other, directory / path.name)
    path.parent.rename(path.parent.with_name("gone"))
    directory.rename(path.parent)


@pytest.fixture
def own_directory(tmp_path: Path) -> Iterator[Store]:
    """A store in its own directory, which can be moved."""
    with Store.open(tmp_path / "own" / "images.db", platform=PLATFORM) as opened:
        opened.apply(NAME, ONE)
        opened.list()
        yield opened


@pytest.mark.parametrize("put", [replace, restore])
def test_writes_go_to_the_store_that_replaced_the_open_one(
    store: Store, other: Path, put: Callable[[Path, Path], None]
) -> None:
    put(store.path, other)

    assert store.apply(THIRD, THREE) is Transition.NEW
    assert references_at(store.path) == {OTHER, THIRD}
    assert set(store.references()) == {OTHER, THIRD}
    assert problems_of(store.path) == []


@pytest.mark.parametrize("put", [replace, restore])
def test_reads_come_from_the_store_that_replaced_the_open_one(
    store: Store, other: Path, put: Callable[[Path, Path], None]
) -> None:
    with Reader.open(store.path) as reader:
        before = data_version(reader)
        put(store.path, other)
        soon(reader.references, [OTHER])
        assert reader.resolve(OTHER) == TWO.id
        assert data_version(reader) != before


def test_a_replaced_directory_is_noticed(own_directory: Store, other: Path) -> None:
    replace_directory(own_directory.path, other)

    assert own_directory.apply(THIRD, THREE) is Transition.NEW
    assert references_at(own_directory.path) == {OTHER, THIRD}


def test_a_moved_store_is_unavailable_until_it_is_back(store: Store, tmp_path: Path) -> None:
    away = tmp_path / "away.db"
    store.path.rename(away)
    with pytest.raises(StoreUnavailableError, match="no such file"):
        store.apply(OTHER, TWO)
    soon(store.list, StoreUnavailableError)
    away.rename(store.path)

    assert store.apply(THIRD, THREE) is Transition.NEW
    assert store.resolve(NAME) == ONE.id
    assert references_at(store.path) == {NAME, THIRD}
    assert problems_of(store.path) == []


def test_a_store_without_its_directory_is_unavailable_until_there_is_one(own_directory: Store) -> None:
    shutil.rmtree(own_directory.path.parent)
    soon(own_directory.list, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError):
        own_directory.apply(OTHER, TWO)
    Store.open(own_directory.path, platform=PLATFORM).close()

    assert own_directory.apply(THIRD, THREE) is Transition.NEW
    assert references_at(own_directory.path) == {THIRD}


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), COMPANIONS])
def test_writes_before_and_after_companions_were_deleted_are_kept(
    store: Store, suffixes: tuple[str, ...]
) -> None:
    remove(store.path, *suffixes)

    assert store.apply(OTHER, TWO) is Transition.NEW
    assert references_at(store.path) == {NAME, OTHER}
    assert store.apply(THIRD, THREE) is Transition.NEW
    store.close()
    assert references_at(store.path) == {NAME, OTHER, THIRD}
    assert problems_of(store.path) == []


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), COMPANIONS])
def test_a_store_can_be_read_after_its_companions_were_deleted(
    store: Store, suffixes: tuple[str, ...]
) -> None:
    remove(store.path, *suffixes)

    soon(
        lambda: all(Path(f"{store.path}{suffix}").exists() for suffix in suffixes) or store.list() is None,
        True,
    )
    assert store.resolve(NAME) == ONE.id
    assert references_at(store.path) == {NAME}


def test_processes_that_share_a_store_survive_the_loss_of_its_companions(store: Store) -> None:
    with Worker() as worker:
        worker.open(store.path)
        worker.ask(Store.apply, OTHER, TWO)
        remove(store.path, *COMPANIONS)
        assert store.apply(THIRD, THREE) is Transition.NEW
        assert worker.ask(Store.apply, "worker", TWO) is Transition.NEW
        assert store.apply("store", TWO) is Transition.NEW
    assert references_at(store.path) == {NAME, OTHER, THIRD, "worker", "store"}
    assert problems_of(store.path) == []


def test_a_write_is_not_acknowledged_if_the_store_is_replaced_meanwhile(store: Store, other: Path) -> None:
    with pytest.raises(StoreReplacedError, match="while it was in use"), store._transaction():  # noqa: SLF001
        replace(store.path, other)

    assert store.apply(THIRD, THREE) is Transition.NEW
    assert references_at(store.path) == {OTHER, THIRD}


def test_a_write_ends_if_a_read_inside_it_finds_the_store_replaced(store: Store, other: Path) -> None:
    def read_another() -> None:
        with store._transaction() as cursor:  # noqa: SLF001
            replace(store.path, other)
            soon(store.references, [OTHER])
            cursor.execute("SELECT 1")

    with pytest.raises(StoreReplacedError):
        read_another()
    assert references_at(store.path) == {OTHER}


def text(path: Path) -> None:
    path.write_text("no database, but some text" * 100)


def link(path: Path) -> None:
    target = path.with_name("target.db")
    with Store.open(target):
        pass
    path.symlink_to(target)


def test_a_store_with_a_second_hard_link_is_refused_until_it_is_gone(store: Store, tmp_path: Path) -> None:
    second = tmp_path / "second.db"
    second.hardlink_to(store.path)

    with pytest.raises(NotAStoreError, match="has 2 names"):
        store.apply(OTHER, TWO)
    soon(store.references, NotAStoreError)
    second.unlink()
    assert store.apply(THIRD, THREE) is Transition.NEW
    assert references_at(store.path) == {NAME, THIRD}


def test_no_write_to_a_truncated_file_is_acknowledged(store: Store) -> None:
    store.path.write_bytes(b"")

    with pytest.raises(ImagekeepError):
        store.apply(OTHER, TWO)


@pytest.mark.parametrize("make", [text, link])
def test_another_file_in_place_of_the_store_is_refused(store: Store, make: Callable[[Path], None]) -> None:
    with Reader.open(store.path) as reader:
        remove(store.path, "", *COMPANIONS)
        make(store.path)
        with pytest.raises(NotAStoreError):
            store.apply(OTHER, TWO)
        soon(reader.list, NotAStoreError)


def test_every_thread_reads_the_store_at_the_path(store: Store, other: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        barrier = threading.Barrier(4)

        def read() -> list[str]:
            barrier.wait(WAIT)
            return store.references()

        assert [each.result(WAIT) for each in [pool.submit(read) for _ in range(4)]] == [[NAME]] * 4
        replace(store.path, other)
        assert store.apply(OTHER, THREE) is Transition.MOVED
        assert [each.result(WAIT) for each in [pool.submit(read) for _ in range(4)]] == [[OTHER]] * 4


def test_an_iteration_continues_in_the_store_at_the_path(store: Store, other: Path) -> None:
    images = store.iter()
    first = next(images)
    replace(store.path, other)
    store.apply(THIRD, THREE)

    assert [image.id for image in images] == sorted(i for i in (TWO.id, THREE.id) if i > first.id)


@pytest.mark.skipif(DRIVER == "sqlite3", reason="the process has one SQLite only")
def test_writes_are_kept_if_another_sqlite_in_the_process_drops_the_locks(store: Store) -> None:
    look = f"import sqlite3; sqlite3.connect({str(store.path)!r}).execute('SELECT count(*) FROM images').fetchone()"
    with contextlib.closing(sqlite3.connect(store.path)) as inside:
        inside.execute("SELECT count(*) FROM images").fetchone()
    subprocess.run([sys.executable, "-c", look], check=True)  # the last to close, it believes

    assert store.apply(OTHER, TWO) is Transition.NEW
    assert references_at(store.path) == {NAME, OTHER}
    assert store.resolve(OTHER) == TWO.id


def test_a_mount_over_the_store_is_noticed(own_directory: Store, other: Path) -> None:
    source = other.with_name("source")
    source.mkdir()
    shutil.move(other, source / own_directory.path.name)
    mounted = subprocess.run(["mount", "--bind", source, own_directory.path.parent], check=False)
    if mounted.returncode:
        pytest.skip("may not mount here")
    try:
        assert own_directory.apply(THIRD, THREE) is Transition.NEW
        assert references_at(source / own_directory.path.name) == {OTHER, THIRD}
        own_directory.list()
    finally:
        own_directory.close()
        subprocess.run(["umount", own_directory.path.parent], check=True)
    assert references_at(own_directory.path) == {NAME}


def test_a_copy_is_not_the_store(store: Store, tmp_path: Path) -> None:
    """A store with the same content is another file."""
    copy_store(store.path, tmp_path / "copy.db")
    replace(store.path, tmp_path / "copy.db")

    assert store.apply(OTHER, TWO) is Transition.NEW
    assert references_at(store.path) == {NAME, OTHER}


def test_a_reader_creates_no_companions_that_would_hide_a_loss(store_path: Path) -> None:
    with Worker() as worker, Reader.open(store_path) as reader:
        worker.open(store_path)
        worker.ask(Store.apply, NAME, ONE)
        assert reader.resolve(NAME) == ONE.id
        remove(store_path, *COMPANIONS)
        looked = time.monotonic() + 3 * CHECK_INTERVAL
        while time.monotonic() < looked:
            assert reader.resolve(NAME) == ONE.id
        assert not Path(f"{store_path}-wal").exists()
        assert worker.ask(Store.apply, OTHER, TWO) is Transition.NEW
        soon(lambda: sorted(reader.references()), [NAME, OTHER])
    assert references_at(store_path) == {NAME, OTHER}


def test_closing_a_store_keeps_what_others_wrote_after_its_companions_were_deleted(store: Store) -> None:
    for number in range(20):
        store.apply(f"lost:{number}", IMAGES[number])
    remove(store.path, *COMPANIONS)
    with Worker() as worker:
        worker.open(store.path)
        for number in range(40):
            worker.ask(Store.apply, f"kept:{number}", IMAGES[number % 20])
    store.close()

    assert {f"kept:{number}" for number in range(40)} <= references_at(store.path)
    assert problems_of(store.path) == []


def test_closing_a_store_saves_the_content_of_a_deleted_wal(store: Store) -> None:
    with Worker() as worker:
        worker.open(store.path)
        worker.ask(Store.list)  # so that this process is not the last to close
        remove(store.path, *COMPANIONS)
        store.close()
        worker.process.kill()
    assert references_at(store.path) == {NAME}


def test_a_fork_saves_the_content_of_a_deleted_wal(store: Store) -> None:
    remove(store.path, *COMPANIONS)

    assert Forked(partial(store.apply, OTHER, TWO)).result() is Transition.NEW
    assert store.apply(THIRD, THREE) is Transition.NEW
    assert references_at(store.path) == {NAME, OTHER, THIRD}


def test_a_thread_that_connects_after_a_loss_reads_the_store(store: Store) -> None:
    with Reader.open(store.path) as reader, ThreadPoolExecutor(1) as pool:
        remove(store.path, *COMPANIONS)
        assert pool.submit(reader.references).result(WAIT) == [NAME]
        assert reader.references() == [NAME]
