"""Whether the source is followed, from the watcher status in the store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cri.server import ServerConfig, serve
from imagekeep.cri.watcher_thread import OtherWatcher, WatcherThread
from imagekeep.errors import AlreadyWatchedError, StoreUnavailableError
from imagekeep.internals import record_watcher, watcher_lock
from imagekeep.store import Store
from imagekeep.times import current_time
from imagekeep.watcher_status import WatcherState
from tests.containerd import wait_until
from tests.watch.watched import WatchedSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imagekeep.reader import Reader
    from tests.cri.client import Client
    from tests.cri.conftest import Serve


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path) as store:
        yield store


def test_a_new_store_is_not_followed(reader: Reader) -> None:
    assert OtherWatcher(reader).state() is None


def test_another_processs_watcher_counts_while_it_lives(reader: Reader, store: Store) -> None:
    current = OtherWatcher(reader)
    state = WatcherState(os.getppid(), "containerd", current_time(), connected_at=current_time())
    with watcher_lock(store):
        record_watcher(store, state)
        assert current.state() == state
    assert current.state() is None


def test_a_stopped_watcher_does_not_count(reader: Reader, store: Store) -> None:
    with watcher_lock(store):
        now = current_time()
        record_watcher(store, WatcherState(os.getpid(), "containerd", now, connected_at=now, stopped_at=now))
        assert OtherWatcher(reader).state() is None


def test_a_server_that_follows_its_source_reports_that_whatever_the_store_has(
    begin: Serve, store_path: Path
) -> None:
    """The status of another watcher does not count, nor one with the same PID in another namespace."""
    source = WatchedSource()
    thread = WatcherThread(lambda: Store.open(store_path, source=source), "watched")
    client = begin(watcher=thread)
    wait_until(lambda: condition(client).get("status") is True)
    now = current_time()
    with Store.open(store_path) as store:
        record_watcher(store, WatcherState(os.getpid(), "another", now, last_error="lost", stopped_at=now))
    assert condition(client) == {"type": "SourceFollowed", "status": True}


def test_a_server_does_not_follow_a_store_that_another_process_follows(
    serving: ServerConfig, store: Store, store_path: Path
) -> None:
    thread = WatcherThread(lambda: Store.open(store_path, source=WatchedSource()), "watched")

    async def serve_until_it_ends() -> None:
        await serve(dataclasses.replace(serving, watcher=thread), asyncio.Event())

    with watcher_lock(store), pytest.raises(AlreadyWatchedError):
        asyncio.run(serve_until_it_ends())
    assert thread.state() is None


def condition(client: Client) -> dict[str, Any]:
    """Return whether the server reports that it follows the source."""
    conditions = client.ask("Status").reply["status"]["conditions"]
    return next(each for each in conditions if each["type"] == "SourceFollowed")


def test_a_server_that_can_no_longer_follow_exits_with_the_reason(serving: ServerConfig) -> None:
    def opening() -> AbstractContextManager[Store]:
        raise StoreUnavailableError("the disk is gone")

    async def serve_until_it_ends() -> None:
        thread = WatcherThread(opening, "containerd")
        await serve(dataclasses.replace(serving, watcher=thread), asyncio.Event())

    with pytest.raises(StoreUnavailableError, match="the disk is gone"):
        asyncio.run(serve_until_it_ends())
