"""Stores replaced repeatedly under the processes that have them open.

The replacement is a copy made under the writer lock, so that the copy itself loses nothing: a change that is
missing afterwards was written to a file that was no longer the store.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from typing import TYPE_CHECKING

from imagekeep import Store, StoreUnavailableError
from imagekeep.database.backup import copy_store
from imagekeep.database.lock import writer_lock
from imagekeep.errors import UntrustedFileError
from tests.torture.children import Child
from tests.torture.orders import PLATFORM
from tests.torture.processes import Shared, SlowSource, change, report_children
from tests.torture.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROCESSES = 4


def replace_often(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Let processes read and write for `count` seconds while another replaces their store."""
    report = Report("replacements", "seconds", rounds=count)
    (directory / "store").mkdir(mode=0o700)
    shared = Shared(directory, seed, count)
    shared.path = directory / "store" / "images.db"
    Store.open(shared.path, platform=PLATFORM).close()
    children = [Child(_use, shared, number) for number in range(PROCESSES)]
    report_children(report, shared, [*children, Child(_replace, shared)], count)
    return report


def _use(report: Callable[[str], None], shared: Shared, number: int) -> None:
    """Write and read until the time is up; an unavailable store is not a harm."""
    draw, changes, unavailable = random.Random(shared.seed * 1000 + number), 0, 0
    with Store.open(shared.path, source=SlowSource(shared.orders), platform=PLATFORM) as store:
        while time.monotonic() < shared.until:
            try:
                changes += change(store, draw, shared)
                store.list()
            except (StoreUnavailableError, UntrustedFileError):  # the lock file has two names for a moment
                unavailable += 1
    report(f"{changes} changes")
    report(f"{unavailable} times unavailable")


def _replace(report: Callable[[str], None], shared: Shared) -> None:
    draw, replaced = random.Random(shared.seed), 0
    while time.monotonic() < shared.until:
        time.sleep(draw.random() / 10)
        draw.choice((_by_rename, _by_deletion, _by_directory))(shared.path)
        replaced += 1
    report(f"{replaced} replacements")


def _by_rename(path: Path) -> None:
    with _copied(path) as copy:
        _remove(path, "-wal", "-shm")
        copy.replace(path)


def _by_deletion(path: Path) -> None:
    with _copied(path) as copy:
        _remove(path, "", "-wal", "-shm")
        time.sleep(0.02)
        copy.rename(path)


def _by_directory(path: Path) -> None:
    """Replace the store's directory; the new one has a hard link to the lock file."""
    with _copied(path) as copy:
        another = path.parent.with_name("another")
        another.mkdir(mode=0o700)
        os.link(f"{path}-lock", another / f"{path.name}-lock")
        copy.rename(another / path.name)
        gone = path.parent.rename(path.parent.with_name("gone"))
        another.rename(path.parent)
        shutil.rmtree(gone)


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """Yield a copy of the store, holding the writer lock."""
    with writer_lock(path):
        copy = path.with_name("copy.db")
        copy_store(path, copy)
        yield copy


def _remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
