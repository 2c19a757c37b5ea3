"""Runs a watcher in a thread, with a source in memory."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imagekeep.store import Store
from imagekeep.watch import Watcher, WatchIntervals
from tests.watch.watched import WatchedSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    class Follow(Protocol):
        """Runs a watcher during a context; waits that are not given are longer than any test."""

        def __call__(self, **waits: float) -> AbstractContextManager[Watcher]: ...


NEVER = 3600.0
WITHIN = 1.0
"""Seconds a stopped watcher may take to end."""


@pytest.fixture
def source() -> WatchedSource:
    return WatchedSource()


@pytest.fixture
def store(store_path: Path, source: WatchedSource) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as opened:
        yield opened


@contextmanager
def running(watcher: Watcher) -> Iterator[Watcher]:
    """Run a watcher in a thread, and check that it ends within a second of being stopped."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            watcher.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        stopped = time.monotonic()
        watcher.stop()
        thread.join(timeout=30)
        took = time.monotonic() - stopped
        assert not thread.is_alive()
        assert not errors, errors
        assert took < WITHIN


@pytest.fixture
def follow(store: Store) -> Follow:
    def begin(**waits: float) -> AbstractContextManager[Watcher]:
        intervals = {"settle": NEVER, "reconcile": NEVER, "retry": 0.01, "back_off": 0.01, "max_delay": 0.05}
        return running(
            Watcher(store, source_name="memory", intervals=WatchIntervals(**{**intervals, **waits}))
        )

    return begin
