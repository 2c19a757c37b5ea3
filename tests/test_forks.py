"""Stores across forks: parent and child both go on reading and writing, whatever the other does.

The moments that matter are made by events and pipes. What threads do meanwhile is left to chance, and repeated.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from imagekeep import FailedPreconditionError, Reader, Store, Transition, forks
from imagekeep.database import connection as connections
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.lock import WRITERS, locked, ranges_of
from imagekeep.internals import apply_all, data_version, lock_references
from tests.forking import WAIT, Forked
from tests.model import IMAGES, PLATFORM
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""Python 3.12 and later warn about a fork with other threads; xdist has one."""

NAME = "docker.io/library/busybox:1"
ONE, TWO, THREE = IMAGES[:3]


def name(number: int, who: str = "app") -> str:
    return f"docker.io/library/{who}:{number}"


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path, platform=PLATFORM) as opened:
        opened.apply(NAME, ONE)
        assert opened.resolve(NAME) == ONE.id
        yield opened


def names_at(path: Path) -> set[str]:
    """Return the references that another process reads at a path."""
    with Worker() as worker:
        worker.open(path)
        return set(worker.ask(Store.references))


def problems_of(path: Path) -> list[str]:
    with closing(connect(path, read_only=True)) as connection:
        return [str(problem) for problem in find_problems(connection)]


def apply_after(store: Store, event: int, reference: str) -> Transition:
    """Write before and after a byte arrives."""
    store.apply(f"{reference}-before", TWO)
    os.read(event, 1)
    return store.apply(f"{reference}-after", THREE)


def test_a_childs_writes_survive_the_parent_closing_first(store: Store) -> None:
    reading, writing = os.pipe()
    child = Forked(partial(apply_after, store, reading, "app:1"))
    store.apply("parent", TWO)
    store.close()
    os.write(writing, b"x")

    assert child.result() is Transition.NEW
    assert names_at(store.path) == {NAME, "parent", "app:1-before", "app:1-after"}
    assert problems_of(store.path) == []


def test_childrens_writes_survive_the_end_of_all_others(store: Store) -> None:
    children = [Forked(partial(store.apply, name(number), TWO)) for number in range(4)]
    store.close()

    assert [child.result() for child in children] == [Transition.NEW] * 4
    assert names_at(store.path) == {NAME, *map(name, range(4))}
    assert problems_of(store.path) == []


def test_a_reader_sees_other_writers_after_its_parent_ended(store: Store) -> None:
    (told, tell), (heard, hear) = os.pipe(), os.pipe()

    def daemon(reader: Reader) -> list[str]:
        before = reader.resolve(NAME)
        os.write(hear, b"x")
        os.read(told, 1)
        return [before, reader.resolve(NAME)]

    with Reader.open(store.path) as reader:
        reader.list()
        child = Forked(partial(daemon, reader))
    os.read(heard, 1)
    store.close()
    with Worker() as worker:
        worker.open(store.path)
        worker.ask(Store.apply, NAME, TWO)
    os.write(tell, b"x")

    assert child.result() == [ONE.id, TWO.id]


def test_a_child_forked_while_other_threads_write_can_write(store: Store) -> None:
    stop = threading.Event()

    def write(who: str) -> int:
        number = 0
        while not stop.is_set():
            assert store.apply(name(number, who), IMAGES[number % 9]) is Transition.NEW
            number += 1
        return number

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write, who) for who in ("a", "b")]
        for number in range(12):
            assert Forked(partial(store.apply, name(number, "child"), TWO)).result() is Transition.NEW
        stop.set()
        written = {
            name(n, who) for who, each in zip("ab", writing, strict=True) for n in range(each.result(WAIT))
        }
    assert names_at(store.path) == written | {NAME} | {name(number, "child") for number in range(12)}
    assert problems_of(store.path) == []


def test_forks_do_not_disturb_reading_threads(store: Store) -> None:
    apply_all(store, {name(number): image for number, image in enumerate(IMAGES[:40])})
    whole, stop = store.list(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            assert store.resolve(NAME) == ONE.id
            assert store.get(ONE.id[7:19]).id == ONE.id
            assert store.list() == whole
            assert [*store.iter()] == whole

    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read) for _ in range(3)]
        for _ in range(12):
            assert Forked(store.list).result() == whole
        stop.set()
        for each in reading:
            each.result(WAIT)


@pytest.mark.parametrize("where", ["parent", "child"])
def test_an_iteration_continues_after_a_fork(store: Store, where: str) -> None:
    apply_all(store, {name(number): image for number, image in enumerate(IMAGES[:9])})
    whole, images = store.list(), store.iter()
    first = [next(images), next(images)]

    child = Forked(lambda: [*images] if where == "child" else [])
    rest = child.result() or [*images]

    assert [*first, *rest] == whole


def test_an_iteration_in_another_thread_continues_after_a_fork(store: Store) -> None:
    apply_all(store, {name(number): image for number, image in enumerate(IMAGES[:9])})
    whole, images = store.list(), store.iter()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, images).result(WAIT)
        assert Forked(lambda: None).result() is None
        assert [first, *pool.submit(list, images).result(WAIT)] == whole


FORK_INSIDE = """
import os, sys
from imagekeep import FailedPreconditionError, Observation, Store
from tests.model import IMAGES

class Forking(dict):
    child = None
    def __iter__(self):  # asked for its platforms inside the transaction
        self.child = self.child or os.fork()
        return super().__iter__()

store, observed = Store.open(sys.argv[1]), Forking({"linux/amd64": IMAGES[1]})
try:
    store.apply("app:1", Observation(observed))
except FailedPreconditionError as error:
    assert "forked during a write" in str(error)
else:
    os._exit(1)
store.apply("parent" if observed.child else "child", IMAGES[2])
if observed.child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(observed.child, 0)[1]))
"""


def test_a_fork_inside_a_write_fails_it_in_parent_and_child(store: Store) -> None:
    subprocess.run([sys.executable, "-c", FORK_INSIDE, store.path], check=True, timeout=WAIT)

    assert names_at(store.path) == {NAME, "parent", "child"}


FORK_AFTER = """
import os, sys
from imagekeep import FailedPreconditionError, Store
from tests.model import IMAGES

store = Store.open(sys.argv[1])
store.apply("first", IMAGES[1])
executed = []

def fork(frame, event, function):
    if event == "c_return" and frame.f_code.co_name == "write_transaction" and function.__name__ == "execute":
        executed.append(function)
        if len(executed) == int(sys.argv[2]):
            sys.setprofile(None)
            if not os.fork():
                os._exit(0)
            os.wait()

sys.setprofile(fork)
try:
    store.apply("second", IMAGES[2])
except FailedPreconditionError as error:
    assert "forked during a write" in str(error), error
    assert sys.argv[2] == "1"
else:
    assert sys.argv[2] == "2"
store.apply("third", IMAGES[3])
"""


@pytest.mark.parametrize(("statement", "written"), [(1, set()), (2, {"second"})], ids=["begin", "commit"])
def test_a_fork_in_a_signal_handler_inside_a_write_is_reported(
    store_path: Path, statement: int, written: set[str]
) -> None:
    subprocess.run([sys.executable, "-c", FORK_AFTER, store_path, str(statement)], check=True, timeout=WAIT)

    assert names_at(store_path) == {"first", "third"} | written


def apply_in_pool(number: int) -> str:
    (store,) = inherited
    assert store.apply(name(number), IMAGES[number]) is Transition.NEW
    return store.resolve(NAME)


inherited: list[Store] = []
"""The store that a pool's processes inherit."""


def test_a_pool_of_forked_processes_reads_and_writes(store: Store) -> None:
    inherited[:] = [store]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(apply_in_pool, range(20)) == [ONE.id] * 20
    assert store.apply("parent", TWO) is Transition.NEW
    assert names_at(store.path) == {NAME, "parent", *map(name, range(20))}


def test_a_grandchild_reads_and_writes(store: Store) -> None:
    def fork_again() -> Transition:
        store.apply("child", TWO)
        return Forked(partial(store.apply, "grandchild", TWO)).result()

    assert Forked(fork_again).result() is Transition.NEW
    assert names_at(store.path) == {NAME, "child", "grandchild"}


def test_a_preexec_fn_of_subprocess_reads_and_writes(store: Store) -> None:
    subprocess.run(["true"], check=True, preexec_fn=partial(store.apply, "child", TWO))

    assert names_at(store.path) == {NAME, "child"}


def test_a_connection_of_another_thread_delays_the_fork_until_it_is_closed(store: Store) -> None:
    opened = threading.Event()

    def use() -> None:
        with closing(connect(store.path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            opened.set()
            assert forks.wait_until(lambda: forks._process.at_rest, time.monotonic() + WAIT)  # noqa: SLF001
            connection.execute("COMMIT")

    with ThreadPoolExecutor(1) as pool:
        using = pool.submit(use)
        assert opened.wait(WAIT)
        assert Forked(lambda: len(connections._open_connections)).result() == 0  # noqa: SLF001
        using.result(WAIT)


def test_a_fork_leaves_no_connection_open(store: Store) -> None:
    with Reader.open(store.path) as reader, ThreadPoolExecutor(1) as pool:
        reader.list()
        pool.submit(reader.list).result(WAIT)
        images = reader.iter()
        next(images)
        assert Forked(lambda: len(connections._open_connections)).result() == 0  # noqa: SLF001


def test_a_fork_changes_the_data_version(store: Store) -> None:
    before = data_version(store)

    assert Forked(lambda: data_version(store)).result() != before
    assert data_version(store) != before


def test_a_reference_lock_held_during_a_fork_stays_with_the_parent(store: Store) -> None:
    held = lock_references(store, [NAME])
    with held:
        child = Forked(lambda: held.__exit__(None, None, None))
        child.result()
        with Worker() as worker:
            worker.open(store.path)
            assert not worker.ask(can_lock, NAME)
    with Worker() as worker:
        worker.open(store.path)
        assert worker.ask(can_lock, NAME)


def can_lock(store: Store, reference: str) -> bool:
    """Return whether a reference's lock is free, from another process."""
    try:
        with locked(store.path, ranges_of([reference]), 0):
            return True
    except Exception:
        return False


def test_a_killed_parents_lock_is_free_while_its_child_lives(store: Store) -> None:
    (heard, hear), (told, tell) = os.pipe(), os.pipe()

    def hold() -> None:
        with locked(store.path, [WRITERS], 0):
            if not os.fork():
                os.write(hear, b"x")
                os.read(told, 1)
                os._exit(0)
            os.read(told, 1)

    parent = Forked(hold)
    os.read(heard, 1)
    os.kill(parent.pid, signal.SIGKILL)
    os.waitpid(parent.pid, 0)

    assert store.apply("free", TWO) is Transition.NEW
    os.write(tell, b"x")


IN_C = """
import ctypes, os, sys
from imagekeep import FailedPreconditionError, Store
from tests.model import IMAGES

store = Store.open(sys.argv[1])
store.apply("parent", IMAGES[0])
child = ctypes.PyDLL(None).fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ctypes.pythonapi.PyOS_AfterFork_Child()
for verb in (store.list, lambda: store.apply("child", IMAGES[1]), lambda: Store.open(sys.argv[1])):
    try:
        verb()
    except FailedPreconditionError as error:
        assert "open it after the fork" in str(error), error
    else:
        os._exit(1)
os._exit(0)
"""


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the interpreter itself then needs its hook before the fork"
)
def test_a_store_inherited_through_a_fork_in_c_is_refused(store_path: Path) -> None:
    subprocess.run([sys.executable, "-c", IN_C, store_path], check=True, timeout=WAIT)


def test_a_closed_store_stays_closed_in_a_child(store: Store) -> None:
    store.close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        Forked(store.list).result()
