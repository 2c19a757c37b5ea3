"""A watcher survives failures, stops when told to, and reports its status."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cli.logs import start_logging
from imagekeep.database.backup import copy_store
from imagekeep.database.connection import StoreConnection, connect
from imagekeep.database.lock import WRITERS, locked
from imagekeep.database.restore import restore_store
from imagekeep.errors import AlreadyWatchedError, SourceFaultError, StoreUnavailableError
from imagekeep.internals import record_watcher
from imagekeep.reader import Reader
from imagekeep.store import Store
from imagekeep.times import current_time
from imagekeep.watch import Watcher
from tests.containerd import wait_until
from tests.watch.conftest import NEVER
from tests.watch.test_following import APP, OTHER, names, settled

if TYPE_CHECKING:
    import logging

    from imagekeep.watcher_status import WatcherState
    from tests.watch.conftest import Follow
    from tests.watch.watched import WatchedSource


class SmallDisk:
    """Limits the size of stores like a small disk, until it is `grown`."""

    def __init__(self) -> None:
        self.connections: list[StoreConnection] = []

    def connect(self, path: Path, **options: Any) -> StoreConnection:
        connection = connect(path, **options)
        connection.execute("PRAGMA max_page_count = 60")
        self.connections.append(connection)
        return connection

    def grow(self, path: Path) -> None:
        with locked(path, [WRITERS], 10):
            for connection in self.connections:
                connection.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_is_waited_for(
    follow: Follow, store: Store, source: WatchedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SmallDisk()
    monkeypatch.setattr("imagekeep.database.kept.connect", disk.connect)
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        entry = source.add_manifest(config={"os": "linux", "architecture": "amd64", "x": "y" * 1_000_000})
        image_id = source.point(APP, entry)
        source.tell(APP)
        wait_until(lambda: "full" in (watcher.state.last_error or ""))
        assert store.list() == []
        disk.grow(store.path)
        wait_until(names(store, APP, image_id))


def test_a_store_that_is_not_writable_at_first_is_waited_for(
    follow: Follow, store: Store, source: WatchedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = source.put(APP, 1)
    refusals = threading.Semaphore(3)

    def note(store: Store, state: WatcherState) -> None:
        if refusals.acquire(blocking=False):
            raise StoreUnavailableError("read-only for a while")
        record_watcher(store, state)

    monkeypatch.setattr("imagekeep.watch.record_watcher", note)
    with follow() as watcher:
        wait_until(names(store, APP, image_id))
        wait_until(lambda: watcher.state.connected_at and store.watcher() == watcher.state)


@pytest.mark.parametrize("moment", ["before records", "after get", "before read"])
def test_stopping_takes_less_than_a_second_during_a_hanging_call(
    moment: str, follow: Follow, store: Store, source: WatchedSource
) -> None:
    source.put(APP, 1)
    hanging = threading.Event()

    def hang() -> None:
        hanging.set()
        source.hang()

    source.at(moment, hang)
    with follow():
        assert hanging.wait(30)
    assert store.list() == []
    assert store.incomplete() == []


def test_stopping_takes_less_than_a_second_while_waiting_for_the_source(
    follow: Follow, source: WatchedSource
) -> None:
    source.fails = True
    with follow(back_off=3600, max_delay=3600) as watcher:
        wait_until(lambda: watcher.state.errors)


def test_a_second_watcher_is_refused_without_effect(follow: Follow, store: Store) -> None:
    with follow() as first:
        wait_until(lambda: first.state.connected_at and store.watcher() == first.state)
        second = Watcher(store, source_name="another")
        with pytest.raises(AlreadyWatchedError, match=rf"process {os.getpid()}, source memory"):
            second.run()
        assert store.watcher() == first.state
        assert store.is_watched()
    assert not store.is_watched()


def test_a_watcher_whose_lock_file_is_deleted_stays_the_only_one(follow: Follow, store: Store) -> None:
    with follow(check=0.01) as first:
        wait_until(lambda: first.state.connected_at and store.watcher() == first.state)
        Path(f"{store.path}-lock").unlink()
        wait_until(store.is_watched)
        with pytest.raises(AlreadyWatchedError):
            Watcher(store, source_name="another").run()


def test_its_progress_is_recorded(follow: Follow, store: Store, source: WatchedSource) -> None:
    source.put(APP, 1)
    before = current_time()
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        source.put(OTHER, 2)
        source.tell(OTHER, at=datetime(2023, 11, 14, tzinfo=UTC))
        wait_until(lambda: watcher.state.changes == 2)
        wait_until(lambda: store.watcher() == watcher.state)
        state = watcher.state
        assert (state.process_id, state.source) == (os.getpid(), "memory")
        assert (state.events, state.reconciles, state.changes, state.errors) == (1, 2, 2, 0)
        assert state.last_event_at == datetime(2023, 11, 14, tzinfo=UTC)
        assert state.connected_at
        assert state.last_reconcile_at
        assert before <= state.started_at <= state.connected_at <= state.last_reconcile_at
        assert state.stopped_at is None
    ended = store.watcher()
    assert ended is not None
    assert (ended.connected_at, ended.changes) == (None, 2)
    assert ended.stopped_at is not None


def test_the_time_of_disconnection_is_recorded(follow: Follow, store: Store, source: WatchedSource) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        source.fails = True
        source.lose()
        wait_until(lambda: watcher.state.errors)
        wait_until(lambda: (state := store.watcher()) and state.connected_at is None)
        state = store.watcher()
        assert state is not None
        assert state.last_error
        assert state.last_reconcile_at is not None


def test_a_change_is_one_line_in_the_log(
    follow: Follow,
    store: Store,
    source: WatchedSource,
    log: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("text", "info")
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        source.put("example.test/\x1b[2J:v1", 1)
        source.tell("example.test/\x1b[2J:v1")
        wait_until(lambda: watcher.state.changes)
    lines = [line.split(" ", 1) for line in capsys.readouterr().err.splitlines()]
    (image,) = source.by_name.values()
    assert [rest for _, rest in lines] == [
        "info    following memory",
        rf"info    new example.test/\x1b[2J:v1 {store.resolve(image.reference)}",
        "info    stopped following memory",
    ]
    assert all(when.endswith("Z") and len(when) == len("2026-01-01T00:00:00.000Z") for when, _ in lines)


def test_a_change_is_one_object_in_the_json_log(
    follow: Follow, source: WatchedSource, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging("json", "info")
    image_id = source.put(APP, 1)
    with follow() as watcher:
        wait_until(lambda: watcher.state.connected_at)
    first, *_ = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time")
    assert first == {
        "level": "info",
        "message": f"new {APP} {image_id}",
        "transition": "new",
        "reference": APP,
        "image_id": image_id,
    }


def test_an_unreadable_image_causes_one_warning(
    follow: Follow,
    store: Store,
    source: WatchedSource,
    log: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start_logging("text", "warning")
    source.put(APP, 1)
    source.break_image(APP)
    with follow():
        wait_until(lambda: [each.tries > 3 for each in store.incomplete()] == [True])
    [line] = capsys.readouterr().err.splitlines()
    assert f"warning cannot read {APP}: no blob" in line


def test_messages_below_the_level_are_not_logged(
    follow: Follow, source: WatchedSource, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging("text", "error")
    source.put(APP, 1)
    with follow() as watcher:
        wait_until(lambda: watcher.state.connected_at)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("event", [True, False])
def test_a_deleted_store_is_waited_for_and_filled_again(
    event: bool, follow: Follow, store: Store, source: WatchedSource
) -> None:
    image_id = source.put(APP, 1)
    with follow(check=0.01) as watcher:
        wait_until(names(store, APP, image_id))
        for suffix in ("", "-wal", "-shm", "-lock"):
            Path(f"{store.path}{suffix}").unlink(missing_ok=True)
        wait_until(lambda: "no such file" in (watcher.state.last_error or ""))
        assert watcher.state.connected_at is None
        if event:
            source.tell(APP)
        Store.open(store.path).close()
        with Reader.open(store.path) as reader:
            wait_until(lambda: [image.references for image in reader.list()] == [(APP,)])
        wait_until(lambda: watcher.state.connected_at and store.watcher() == watcher.state)
        assert store.is_watched()


def test_a_restored_store_is_filled_again(
    follow: Follow, store: Store, source: WatchedSource, tmp_path: Path
) -> None:
    copy_store(store.path, tmp_path / "empty.db")
    image_id = source.put(APP, 1)
    with follow(check=0.01):
        wait_until(names(store, APP, image_id))
        restore_store(store.path, tmp_path / "empty.db")
        wait_until(names(store, APP, image_id))


def test_a_stream_that_always_ends_at_once_is_retried_with_back_off_and_logged_once(
    follow: Follow, source: WatchedSource, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging("text", "error")

    def lose() -> None:
        source.lose(SourceFaultError("an event that is not understood"))
        source.at("after subscribe", lose)

    source.at("after subscribe", lose)
    with follow(back_off=0.01, max_delay=NEVER) as watcher:
        begun = time.monotonic()
        wait_until(lambda: watcher.state.errors >= 7)
        took = time.monotonic() - begun
    assert took >= 0.01 * (2**6 - 1) / 2
    assert capsys.readouterr().err.count("an event that is not understood") == 1


@pytest.mark.parametrize(("limit", "most"), [("MAX_EVENTS", 3), ("MAX_CHARACTERS", 3 * len(APP))])
def test_overflowing_events_are_recovered_by_a_reconcile(
    follow: Follow,
    store: Store,
    source: WatchedSource,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
) -> None:
    monkeypatch.setattr(f"imagekeep.watch.{limit}", most)
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        source.put(APP, 1)
        image_id = source.put(OTHER, 2)

        def flood() -> None:
            for _ in range(100):
                source.tell(APP)
            wait_until(lambda: watcher._inbox.qsize() > 3)  # noqa: SLF001

        source.at("before get", flood)
        source.tell(APP)
        wait_until(names(store, OTHER, image_id))
        assert "source sends events too fast" in (watcher.state.last_error or "")


def commits(store: Store) -> int:
    """Count the transactions in a store's write-ahead log (SQLite: fileformat2, the WAL format)."""
    log = Path(f"{store.path}-wal").read_bytes()
    page_size = int.from_bytes(log[8:12])
    salts, frames = log[16:24], range(32, len(log) - 23, 24 + page_size)
    return sum(log[at + 8 : at + 16] == salts and log[at + 4 : at + 8] != bytes(4) for at in frames)


def test_a_change_and_the_status_are_written_in_one_transaction(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        before = commits(store)
        image_id = source.put(APP, 1)
        source.tell(APP)
        wait_until(names(store, APP, image_id))
        wait_until(lambda: store.watcher() == watcher.state)
        assert (watcher.state.events, watcher.state.changes) == (1, 1)
        assert commits(store) - before == 1
