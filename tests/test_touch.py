"""Reported uses of images: coarse, and never a reason for a caller to fail."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database.lock import WRITERS, locked
from imagekeep.internals import apply_all
from imagekeep.reader import Reader
from imagekeep.store import Store
from imagekeep.times import from_microseconds, to_microseconds
from tests.database.rows import opened
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE, TWO = IMAGES[:2]
NAME = "docker.io/library/busybox:1"
MINUTE = 60_000_000


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path, platform=PLATFORM) as store:
        apply_all(store, {NAME: ONE, "docker.io/library/other:1": TWO})
        yield store


@pytest.fixture
def clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Set the store's clock, in microseconds, to the last value that the test appends."""
    times = [1_700_000_000_000_000]
    monkeypatch.setattr("imagekeep.store.timestamp", lambda: times[-1])
    return times


def used(store: Store, image_id: str = ONE.id) -> tuple[int | None, int]:
    """Return when an image was last used, in microseconds, and how often."""
    usage = store.usage(image_id)
    return to_microseconds(usage.last_used) if usage.last_used else None, usage.uses


def test_an_image_that_was_never_used_says_so(store: Store) -> None:
    assert used(store) == (None, 0)
    assert not store.usage(ONE.id).in_use


@pytest.mark.parametrize("name", [NAME, "busybox:1", ONE.id, ONE.id[7:19]])
def test_a_use_is_recorded_by_any_name_of_the_image(name: str, store: Store, clock: list[int]) -> None:
    store.touch(name)
    assert used(store) == (clock[0], 1)
    assert used(store, TWO.id) == (None, 0)
    with Reader.open(store.path) as reader:
        assert reader.usage(ONE.id) == store.usage(ONE.id)


def test_a_use_within_a_minute_is_not_written(store: Store, clock: list[int]) -> None:
    with opened(store.path) as watching:

        def version() -> Any:
            return watching.execute("PRAGMA data_version").fetchone()

        store.touch(NAME)
        before = version()
        for _ in range(100):
            clock.append(clock[-1] + MINUTE // 101)
            store.touch(NAME)
            store.touch(ONE.id)
        assert version() == before
        assert used(store) == (clock[0], 1)
        clock.append(clock[0] + MINUTE)
        store.touch(NAME)
        assert version() != before
    assert used(store) == (clock[-1], 2)


def test_of_two_processes_one_writes_a_use(store: Store) -> None:
    store.touch(NAME)
    before = used(store)
    child = os.fork()
    if not child:
        with Store.open(store.path, platform=PLATFORM) as other:
            other.touch(NAME)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert used(store) == before


def test_a_use_in_the_past_is_recorded_if_none_was_later(store: Store, clock: list[int]) -> None:
    store.touch(NAME, from_microseconds(clock[0] - 10 * MINUTE))
    assert used(store) == (clock[0] - 10 * MINUTE, 1)
    store.touch(NAME, from_microseconds(clock[0] - 5 * MINUTE))
    assert used(store) == (clock[0] - 5 * MINUTE, 2)
    store.touch(NAME, from_microseconds(clock[0] - 20 * MINUTE))
    assert used(store) == (clock[0] - 5 * MINUTE, 2)


def test_a_time_in_any_zone_is_that_moment(store: Store, clock: list[int]) -> None:
    moment = from_microseconds(clock[0] - MINUTE)
    store.touch(NAME, moment.astimezone(timezone(timedelta(hours=-7))))
    assert used(store)[0] == clock[0] - MINUTE


def test_a_use_in_the_future_is_one_of_now(store: Store, clock: list[int]) -> None:
    store.touch(NAME, datetime(9999, 12, 31, tzinfo=UTC))
    assert used(store) == (clock[0], 1)


@pytest.mark.parametrize(
    "name",
    [
        "nothing:1",
        "",
        "\ud800",
        "sha256:" + "0" * 64,
        "UPPER CASE",
        "b" * 40_000,
        "busybox\0:1",
        None,
        7,
        b"x",
    ],
)
def test_a_name_of_no_image_raises_nothing(name: Any, store: Store) -> None:
    store.touch(name)
    assert used(store) == (None, 0)


@pytest.mark.parametrize("at", [datetime(2024, 1, 1), "yesterday", 5])
def test_an_invalid_time_raises_nothing(at: Any, store: Store) -> None:
    store.touch(NAME, at)
    assert used(store) == (None, 0)


def test_a_closed_or_missing_store_raises_nothing(store: Store) -> None:
    store.path.rename(store.path.with_name("elsewhere.db"))
    store.touch(NAME)
    store.path.with_name("elsewhere.db").rename(store.path)
    store.close()
    store.touch(NAME)
    with Reader.open(store.path) as reader:
        assert reader.usage(ONE.id).uses == 0


def test_a_store_that_others_write_to_is_waited_for_a_second_and_raises_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.store.TOUCH_WAIT", 0.05)
    with locked(store.path, [WRITERS], 10):
        store.touch(NAME)
    assert used(store) == (None, 0)
    store.touch(NAME)
    assert used(store)[1] == 1


def test_a_use_is_counted_as_far_as_numbers_go(store: Store) -> None:
    with opened(store.path) as connection:
        connection.execute("UPDATE image_usage SET uses = 9223372036854775807")
    store.touch(NAME)
    assert used(store)[1] == 2**63 - 1
    assert used(store)[0] is not None


def test_threads_report_uses_together(store: Store) -> None:
    threads = [threading.Thread(target=store.touch, args=(NAME,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert used(store)[1] == 1


def test_an_image_that_is_removed_loses_its_use(store: Store) -> None:
    store.touch(NAME)
    store.apply(NAME, None)
    with opened(store.path) as connection:
        assert connection.execute("SELECT image_id FROM image_usage").fetchall() == [(TWO.id,)]
    store.apply(NAME, ONE)
    assert used(store) == (None, 0)
