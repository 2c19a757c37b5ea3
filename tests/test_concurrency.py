"""Many threads and processes at once: the later answer stays, and readers never wait."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import pytest

from imagekeep import FailedPreconditionError, ImageNotFoundError, Reader, Store, StoreBusyError, Transition
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.lock import locked, ranges_of
from imagekeep.internals import apply_all, lock_references
from tests.memory import MemorySource
from tests.model import IMAGES, perform
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagekeep import Descriptor, ImageRecord

NAME, OTHER = "docker.io/library/busybox:1", "docker.io/library/busybox:2"
ONE, TWO = IMAGES[:2]
PLATFORM = "linux/amd64"
WAIT = 30.0
"""Seconds after which a hanging test fails."""

Answer = TypeVar("Answer")


class BlockingSource(MemorySource):
    """A source whose reads wait until the test allows them."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def read(self, descriptor: Descriptor) -> bytes:
        self.reached.set()
        assert self.go_on.wait(WAIT)
        return super().read(descriptor)


class CountingSource(MemorySource):
    """A source that returns another image each time, and counts concurrent calls."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.ids = [self.put(f"image {number}", number) for number in range(images)]
        self.lock = threading.Lock()
        self.said: list[str] = []

    def get(self, reference: str) -> ImageRecord:
        with self.lock:
            number = len(self.said)
            self.said.append(self.ids[number])
        return self.by_name[f"image {number}"]


def in_thread(pool: ThreadPoolExecutor, action: Callable[[], Answer]) -> Callable[[], Answer]:
    """Start an action in another thread; return a function that waits for its result."""
    future = pool.submit(action)
    return lambda: future.result(WAIT)


def problems_of(path: Path) -> list[str]:
    with closing(connect(path, read_only=True)) as connection:
        return [str(problem) for problem in find_problems(connection)]


@pytest.mark.parametrize("stores", [1, 4])
def test_the_last_answer_of_many_concurrent_updates_stays(store_path: Path, stores: int) -> None:
    source, updates = CountingSource(24), 24
    opened = [Store.open(store_path, source=source, platform=PLATFORM) for _ in range(stores)]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(opened[n % stores].update, NAME) for n in range(updates)]
        for each in waiting:
            each.result(WAIT)
    history = [entry.image_id for entry in opened[0].history(NAME)]
    assert history == source.said
    assert opened[0].resolve(NAME) == source.said[-1]
    for store in opened:
        store.close()


def test_an_update_waits_for_an_earlier_one_of_the_same_reference(store_path: Path) -> None:
    source = BlockingSource()
    old = source.put(NAME, 1)
    with Store.open(store_path, source=source, platform=PLATFORM) as store, ThreadPoolExecutor(2) as pool:
        first = in_thread(pool, lambda: store.update(NAME))
        assert source.reached.wait(WAIT)
        new = source.put(NAME, 2)
        second = in_thread(pool, lambda: store.update(NAME))
        source.go_on.set()
        assert (first(), second()) == (Transition.NEW, Transition.MOVED)
        assert [entry.image_id for entry in store.history(NAME)] == [old, new]


def test_an_update_does_not_wait_for_one_of_another_reference(store_path: Path) -> None:
    slow, quick = BlockingSource(), MemorySource()
    slow.put(NAME, 1)
    quick.put(OTHER, 2)
    with (
        Store.open(store_path, source=slow, platform=PLATFORM) as one,
        Store.open(store_path, source=quick, platform=PLATFORM) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        first = in_thread(pool, lambda: one.update(NAME))
        assert slow.reached.wait(WAIT)
        assert other.update(OTHER) is Transition.NEW
        slow.go_on.set()
        assert first() is Transition.NEW


def test_another_process_does_not_update_a_locked_reference(store_path: Path) -> None:
    with Store.open(store_path) as store, Worker() as worker:
        worker.open(store_path)
        with lock_references(store, [NAME]):
            assert not worker.ask(can_hold, NAME)
            assert worker.ask(can_hold, OTHER)
        assert worker.ask(can_hold, NAME)


def can_hold(store: Store, reference: str) -> bool:
    """Return whether another process could update a reference now."""
    try:
        with locked(store.path, ranges_of([reference]), 0):
            return True
    except StoreBusyError:
        return False


def test_readers_do_not_wait_for_a_hanging_source(store_path: Path) -> None:
    source = BlockingSource()
    source.put(NAME, 1)
    with Store.open(store_path, source=source, platform=PLATFORM) as store, ThreadPoolExecutor(1) as pool:
        store.apply(OTHER, ONE)
        update = in_thread(pool, lambda: store.update(NAME))
        assert source.reached.wait(WAIT)
        assert store.resolve(OTHER) == ONE.id
        assert store.get(ONE.id[7:19]).id == ONE.id
        assert [image.id for image in store.list()] == [ONE.id]
        assert store.apply(OTHER, TWO) is Transition.MOVED
        source.go_on.set()
        assert update() is Transition.NEW


def test_readers_do_not_wait_for_a_writer(store_path: Path) -> None:
    with Store.open(store_path) as store, closing(connect(store_path)) as writer:
        store.apply(NAME, ONE)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute('DELETE FROM "references"')
        assert store.resolve(NAME) == ONE.id
        assert len(store.list()) == 1
        writer.execute("ROLLBACK")


def test_a_listing_sees_one_state_while_another_thread_writes(store_path: Path) -> None:
    with Store.open(store_path) as store, ThreadPoolExecutor(1) as pool:
        apply_all(store, {NAME: ONE, OTHER: TWO})
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                apply_all(store, {NAME: TWO, OTHER: ONE})
                apply_all(store, {NAME: ONE, OTHER: TWO})

        swapping = in_thread(pool, swap)
        for _ in range(200):
            listed = {image.id: image.references for image in store.list()}
            assert listed in ({ONE.id: (NAME,), TWO.id: (OTHER,)}, {ONE.id: (OTHER,), TWO.id: (NAME,)})
        stop.set()
        swapping()


def test_many_threads_use_one_store(store_path: Path) -> None:
    with Store.open(store_path) as store, ThreadPoolExecutor(12) as pool:

        def work(number: int) -> str:
            name, image = f"docker.io/library/app:{number}", IMAGES[number % len(IMAGES)]
            store.apply(name, image)
            store.pin(image.id, name)
            assert store.is_pinned(image.id, name)
            assert name in store.get(image.id).references
            return store.resolve(name)

        found = list(pool.map(work, range(60)))
        assert found == [IMAGES[number % len(IMAGES)].id for number in range(60)]
        assert len(store.states()) == 60
    assert problems_of(store_path) == []


def test_many_processes_write_one_store(store_path: Path) -> None:
    workers = [Worker() for _ in range(3)]
    for worker in workers:
        worker.open(store_path)
    with ThreadPoolExecutor(3) as pool:
        tasks = [pool.submit(write_many, worker, number) for number, worker in enumerate(workers)]
        for task in tasks:
            task.result(WAIT)
    for worker in workers:
        worker.close()
    with Reader.open(store_path) as reader:
        assert len(reader.states()) == 60
    assert problems_of(store_path) == []


def write_many(worker: Worker, number: int) -> None:
    for each in range(20):
        operation = ("apply", f"docker.io/library/app:{number}-{each}", IMAGES[each])
        assert worker.ask(perform, operation) == ("ok", Transition.NEW)


# From Python 3.12 on, a fork beside other threads (xdist has one) warns; this is about just that.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_parent_and_child_both_use_the_store_after_a_fork(store_path: Path) -> None:
    with Store.open(store_path, platform=PLATFORM) as store:
        store.apply(NAME, ONE)
        assert store.resolve(NAME) == ONE.id
        child = os.fork()
        if not child:
            os._exit(in_child(store))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.resolve(OTHER) == TWO.id
        assert store.apply(OTHER, None) is Transition.VANISHED
    assert problems_of(store_path) == []


def in_child(store: Store) -> int:
    """Use a parent's store in its child; return 0 on success."""
    try:
        read = store.resolve(NAME) == ONE.id
        written = store.apply(OTHER, TWO) is Transition.NEW
        store.close()
    except BaseException:  # the child must not go on into the parent's tests
        return 2
    return 0 if read and written else 1


def test_closing_a_store_stops_its_readers(store_path: Path) -> None:
    with Store.open(store_path) as store, ThreadPoolExecutor(1) as pool:
        store.apply(NAME, ONE)
        assert in_thread(pool, lambda: store.resolve(NAME))() == ONE.id
        store.close()
        with pytest.raises(FailedPreconditionError, match="closed"):
            in_thread(pool, lambda: store.resolve(NAME))()


def test_two_stores_of_one_file_see_each_others_writes(store_path: Path) -> None:
    with Store.open(store_path) as one, Store.open(store_path) as other:
        one.apply(NAME, ONE)
        assert other.resolve(NAME) == ONE.id
        other.apply(NAME, None)
        with pytest.raises(ImageNotFoundError):
            one.resolve(NAME)


CLOSED_BY_ANOTHER_THREAD = """
import sys, threading
from imagekeep import Store
from imagekeep.errors import FailedPreconditionError
from imagekeep.image import Image

for number in range(100):
    store, begun, ended = Store.open(sys.argv[1]), threading.Event(), []

    def work():
        try:
            while True:
                store.add(Image("sha256:" + "1" * 64, ("example.test/a:v1",), "", 1, False, b"{}"))
                store.list()
                begun.set()
        except FailedPreconditionError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    store.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 2, ended
    assert all("it is closed" in error for error in ended), ended
"""


def test_a_store_can_be_closed_while_other_threads_use_it(tmp_path: Path) -> None:
    program = [sys.executable, "-c", CLOSED_BY_ANOTHER_THREAD, str(tmp_path / "images.db")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
