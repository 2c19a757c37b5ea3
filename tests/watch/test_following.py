"""A watcher keeps the store up to date with its source: no change is lost, whenever it comes."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from imagekeep import ImageNotFoundError, OCILayout, Store
from imagekeep.diff import find_differences
from imagekeep.errors import FailedPreconditionError, SourceUnavailableError
from imagekeep.watch import Watcher, WatchIntervals, _Retries
from tests.containerd import wait_until
from tests.watch.watched import raising

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.watch.conftest import Follow
    from tests.watch.watched import WatchedSource

APP, OTHER = "example.test/app:v1", "example.test/other:v1"


def settled(watcher: Watcher) -> Callable[[], bool]:
    """Return whether the second reconcile is done, so that the stream counts as live."""
    return lambda: watcher.state.reconciles >= 2 and watcher.state.connected_at is not None


def names(store: Store, reference: str, image_id: str | None) -> Callable[[], bool]:
    """Return whether the store has a reference."""

    def now() -> bool:
        try:
            return store.resolve(reference) == image_id
        except ImageNotFoundError:
            return image_id is None

    return now


def test_subscribing_comes_before_reconciling(follow: Follow, source: WatchedSource) -> None:
    with follow() as watcher:
        wait_until(lambda: watcher.state.connected_at)
        assert source.calls == ["subscribe", "records"]


def test_the_first_event_causes_a_second_reconcile(follow: Follow, source: WatchedSource) -> None:
    with follow() as watcher:
        wait_until(lambda: watcher.state.connected_at)
        source.tell(APP)
        wait_until(settled(watcher))
        assert source.calls.count("records") == 2


def test_a_short_time_without_events_causes_a_second_reconcile(follow: Follow, source: WatchedSource) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        assert source.calls.count("records") == 2


def test_later_events_are_followed_one_by_one(follow: Follow, store: Store, source: WatchedSource) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        image_id = source.put(APP, 1)
        source.tell(APP)
        wait_until(names(store, APP, image_id))
        assert source.calls.count("records") == 2


def test_a_quiet_source_is_reconciled_periodically(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    with follow(settle=0.01, reconcile=0.05) as watcher:
        wait_until(settled(watcher))
        image_id = source.put(APP, 1)
        wait_until(names(store, APP, image_id))


@pytest.mark.parametrize("moment", ["before subscribe", "after subscribe", "before records", "after records"])
def test_a_change_before_the_stream_is_live_is_found_by_the_second_reconcile(
    moment: str, follow: Follow, store: Store, source: WatchedSource
) -> None:
    source.at(moment, lambda: source.put(APP, 1))
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        assert [image.references for image in store.list()] == [(APP,)]


@pytest.mark.parametrize("change", ["moved", "gone"])
@pytest.mark.parametrize("moment", ["before get", "after get", "before read", "after read"])
def test_a_change_while_its_reference_is_being_read_is_not_lost(
    moment: str, change: str, follow: Follow, store: Store, source: WatchedSource
) -> None:
    expected: list[str | None] = []

    def change_it() -> None:
        if change == "gone":
            source.remove(APP)
        expected.append(source.put(APP, 3) if change == "moved" else None)
        source.tell(APP)

    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        source.put(APP, 2)
        source.at(moment, change_it)
        source.tell(APP)
        wait_until(lambda: expected)
        wait_until(names(store, APP, expected[0]))
        wait_until(lambda: watcher.state.events == 2)
        assert source.calls.count("records") == 2


def test_a_change_during_a_reconcile_is_not_lost(follow: Follow, store: Store, source: WatchedSource) -> None:
    source.put(APP, 1)
    moved: list[str] = []

    def change_it() -> None:
        moved.append(source.put(APP, 2))
        source.tell(APP)

    source.at("after records", lambda: source.at("after records", change_it))
    with follow(settle=0.01):
        wait_until(lambda: moved)
        wait_until(names(store, APP, moved[0]))


def test_many_concurrent_changes_are_all_followed_by_events(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    images = [source.image(number) for number in range(8)]

    def change(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(250):
            reference = f"example.test/app-{seed}:{chance.randrange(10)}"
            if chance.random() < 0.3 and reference in source.by_name:
                source.remove(reference)
            else:
                source.point(reference, chance.choice(images), pinned=chance.random() < 0.5)
            source.tell(reference)

    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        changers = [threading.Thread(target=change, args=(seed,)) for seed in range(4)]
        for changer in changers:
            changer.start()
        for changer in changers:
            changer.join()
        wait_until(lambda: watcher.state.events == 1000)
        wait_until(lambda: not find_differences(store))
        assert watcher.state.reconciles == 2


def test_waiting_events_of_one_reference_are_one_call(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    answering = threading.Event()
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        asked = threading.Event()

        def answer_late() -> None:
            asked.set()
            answering.wait()

        source.at("before get", answer_late)
        source.tell(OTHER)
        asked.wait()
        image_id = source.put(APP, 1)
        for _ in range(500):
            source.tell(APP)
        answering.set()
        wait_until(names(store, APP, image_id))
        wait_until(lambda: watcher.state.events == 501)
        assert source.calls.count(f"get {APP}") == 1


@pytest.mark.parametrize("error", [None, SourceUnavailableError("gone"), RuntimeError("a fault of ours")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_stream_is_subscribed_to_again_and_changes_meanwhile_are_found(
    error: BaseException | None, follow: Follow, store: Store, source: WatchedSource
) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        image_id = source.put(APP, 1)
        source.lose(error)
        wait_until(names(store, APP, image_id))
        assert source.calls[:4] == ["subscribe", "records", "records", "subscribe"]
        assert watcher.state.errors == 1


def test_an_unavailable_source_is_waited_for(follow: Follow, store: Store, source: WatchedSource) -> None:
    image_id = source.put(APP, 1)
    source.fails = True
    with follow() as watcher:
        wait_until(lambda: watcher.state.errors >= 3)
        assert store.list() == []
        source.fails = False
        wait_until(names(store, APP, image_id))


def test_late_content_is_retried_and_shown_as_incomplete_meanwhile(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    image_id = source.put(APP, 1)
    target = source.target(APP).digest
    late = source.blobs.pop(target)
    with follow() as watcher:
        wait_until(lambda: [each.tries > 1 for each in store.incomplete()] == [True])
        [incomplete] = store.incomplete()
        assert (incomplete.reference, incomplete.error) == (APP, f"no blob {target}")
        assert incomplete.since < incomplete.tried_at
        source.blobs[target] = late
        wait_until(names(store, APP, image_id))
        wait_until(lambda: store.incomplete() == [])
        assert watcher.state.reconciles == 1


def test_an_incomplete_reference_that_vanishes_unwatched_is_forgotten(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    source.put(APP, 1)
    source.break_image(APP)
    with follow(retry=3600):
        wait_until(store.incomplete)
    source.remove(APP)
    source.closed.clear()
    with follow(retry=3600) as watcher:
        wait_until(lambda: watcher.state.connected_at)
        assert store.incomplete() == []


def test_an_unreadable_image_does_not_affect_the_others(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    image_id = source.put(OTHER, 2)
    source.put(APP, 1)
    source.break_image(APP)
    with follow():
        wait_until(names(store, OTHER, image_id))


def test_retries_back_off_exponentially_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("imagekeep.watch.time.monotonic", lambda: now)
    retries = _Retries(WatchIntervals(retry=1, max_delay=3))
    waits = []
    for _ in range(4):
        retries.update([], [APP])
        waits.append(retries.next_at() - now)
    assert waits == [1, 2, 3, 3]
    assert retries.due(now + 2.9) == []
    assert retries.due(now + 3) == [APP]
    retries.update([APP], [])
    assert retries.next_at() == float("inf")


def test_a_source_without_events_is_refused(store_path: Path, tmp_path: Path) -> None:
    with (
        Store.open(store_path, source=OCILayout(tmp_path)) as store,
        pytest.raises(FailedPreconditionError, match="run `imagekeep sync`"),
    ):
        Watcher(store, source_name="oci:shop")


def test_a_call_that_fails_temporarily_is_retried(
    follow: Follow, store: Store, source: WatchedSource
) -> None:
    with follow(settle=0.01) as watcher:
        wait_until(settled(watcher))
        image_id = source.put(APP, 1)
        source.at("before read", raising(SourceUnavailableError("for a moment")))
        source.tell(APP)
        wait_until(names(store, APP, image_id))
        assert store.incomplete() == []
