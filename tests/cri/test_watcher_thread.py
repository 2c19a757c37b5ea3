"""Whether the source is followed, by what watchers wrote in the store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from typing import TYPE_CHECKING

import pytest

from imagekeep.cri.server import ServerConfig, serve
from imagekeep.cri.watcher_thread import CurrentWatcher
from imagekeep.errors import StoreUnavailableError
from imagekeep.store import Store
from imagekeep.watcher_status import WatcherState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imagekeep.reader import Reader


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path) as store:
        yield store


def now() -> int:
    return time.time_ns() // 1000


def test_nobody_follows_a_new_store(reader: Reader) -> None:
    assert CurrentWatcher(reader, own=False).state() is None


def test_a_watcher_of_another_process_follows_while_that_lives(reader: Reader, store: Store) -> None:
    current = CurrentWatcher(reader, own=False)
    state = WatcherState(os.getppid(), "containerd", 1, connected_at=2)
    with store.watcher_lock():
        store.record_watcher(state)
        assert current.state() == state
    assert current.state() is None


def test_a_watcher_that_said_it_ended_follows_no_more(reader: Reader, store: Store) -> None:
    with store.watcher_lock():
        store.record_watcher(WatcherState(os.getpid(), "containerd", 1, connected_at=2, stopped_at=3))
        assert CurrentWatcher(reader, own=False).state() is None


def test_what_an_earlier_process_of_the_same_id_wrote_is_not_our_word(reader: Reader, store: Store) -> None:
    store.record_watcher(WatcherState(os.getpid(), "containerd", now(), connected_at=now()))
    current = CurrentWatcher(reader, own=True)
    with store.watcher_lock():
        assert current.state() is None
        store.record_watcher(WatcherState(os.getpid(), "containerd", now(), connected_at=now()))
        assert current.state() is not None


def test_a_server_that_can_follow_no_more_ends_and_says_why(serving: ServerConfig) -> None:
    def opening() -> AbstractContextManager[Store]:
        raise StoreUnavailableError("the disk is gone")

    async def serve_until_it_ends() -> None:
        await serve(dataclasses.replace(serving, store_factory=opening, follow="containerd"), asyncio.Event())

    with pytest.raises(StoreUnavailableError, match="the disk is gone"):
        asyncio.run(serve_until_it_ends())
