"""Processes that fork while their threads read and write: the children use the same store.

A parent's threads work all the time. It forks children: some fork again, some are killed, some outlive it. The
store must keep what each of them acknowledged, and no answer may be impossible.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

from imagekeep import Store
from tests.torture.children import Child
from tests.torture.orders import PLATFORM
from tests.torture.processes import Shared, SlowSource, change, report_children, wrong_answers
from tests.torture.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THREADS = 2
TOGETHER = 4
KILLED_EVERY, FORKING_EVERY = 5, 3


def fork_often(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Let one process fork `count` children, at most TOGETHER at once."""
    report = Report("forks", "forks", rounds=count)
    Store.open(directory / "images.db", platform=PLATFORM).close()
    shared = Shared(directory, seed, 0)
    report_children(report, shared, [Child(_be_a_parent, shared, count)], count)
    return report


def _be_a_parent(report: Callable[[str], None], shared: Shared, count: int) -> None:
    store = Store.open(shared.path, source=SlowSource(shared.orders), platform=PLATFORM)
    ended = threading.Event()
    threads = [
        threading.Thread(target=_use_until, args=(report, store, shared, number, ended))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    draw, living = random.Random(shared.seed), set()
    for number in range(count):
        if not (child := os.fork()):
            _be_a_child(report, store, shared, number)
        living.add(child)
        if number % KILLED_EVERY == 0:
            time.sleep(draw.random() / 50)
            os.kill(child, signal.SIGKILL)
        while len(living) >= TOGETHER:
            living.discard(_reap(report))
    ended.set()
    for thread in threads:
        thread.join()
    store.close()  # while the last children are at work
    while living:
        living.discard(_reap(report))


def _reap(report: Callable[[str], None]) -> int:
    child, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        report(f"crashed a forked child ended with {code}")
    return child


def _use_until(
    report: Callable[[str], None], store: Store, shared: Shared, number: int, ended: threading.Event
) -> None:
    draw, changes = random.Random(shared.seed * 1000 + number), 0
    while not ended.is_set():
        changes += _use(report, store, draw, shared)
    report(f"{changes} changes")


def _use(report: Callable[[str], None], store: Store, draw: random.Random, shared: Shared) -> int:
    """Write and read once; any error is a crash."""
    try:
        for what in wrong_answers(store, draw, shared):
            report(what)
        return change(store, draw, shared)
    except Exception as error:
        report(f"crashed {type(error).__name__}: {error}")
        return 0


def _be_a_child(report: Callable[[str], None], store: Store, shared: Shared, number: int) -> None:
    """Use the store that the parent opened, and end."""
    draw = random.Random(shared.seed * 2000 + number)
    changes = sum(_use(report, store, draw, shared) for _ in range(4))
    if number % FORKING_EVERY == 0 and (grandchild := os.fork()):
        os.waitpid(grandchild, 0)
    changes += _use(report, store, draw, shared)
    report(f"{changes} changes in children")
    os._exit(0)
