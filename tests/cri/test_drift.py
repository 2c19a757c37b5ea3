"""The scheduled comparison of containerd's CRI with its records."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from imagekeep.cri.drift import DriftCheck
from imagekeep.cri.metrics import Metrics
from imagekeep.cri.stale import Fault, Stale
from imagekeep.cri.watcher_thread import OtherWatcher
from imagekeep.errors import SourceUnavailableError
from imagekeep.store import Store
from tests.cri.client import page_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from imagekeep.reader import Reader


def check_of(store_path: Path, interval: float = 600) -> DriftCheck:
    return DriftCheck(lambda: contextlib.closing(Store.open(store_path)), interval)


def test_each_difference_is_counted(
    reader: Reader, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Stale("a", Fault.STUCK, "1"), Stale("b", Fault.STUCK, "2"), Stale("c", Fault.LOST, "3")]
    monkeypatch.setattr("imagekeep.cri.drift.find_stale", lambda _: found)
    check = check_of(store_path)
    before = time.time()
    check.compare()
    page = page_of(Metrics(reader, OtherWatcher(reader), drift=check))
    for difference, count in (("stuck", 2), ("lost", 1), ("stays", 0)):
        assert f'imagekeep_cri_drift_names{{difference="{difference}"}} {count}.0' in page
    assert check.last
    assert check.last.at >= before


def test_failed_comparison_is_logged_and_the_last_result_stays(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("imagekeep.cri.drift.find_stale", lambda _: [])
    check = check_of(store_path)
    check.compare()
    last = check.last

    def fail(_store: Store) -> list[Stale]:
        raise SourceUnavailableError("no socket")

    monkeypatch.setattr("imagekeep.cri.drift.find_stale", fail)
    with caplog.at_level(logging.WARNING):
        check.compare()
    assert check.last is last
    assert caplog.messages == ["cannot compare containerd's CRI with its records: no socket"]


def test_comparison_is_repeated_until_the_server_stops(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, thrice = list[Store](), threading.Event()

    def find(store: Store) -> list[Stale]:
        compared.append(store)
        if len(compared) == 3:
            thrice.set()
        return []

    monkeypatch.setattr("imagekeep.cri.drift.find_stale", find)

    async def run() -> None:
        async with check_of(store_path, interval=0.001).running():
            await asyncio.to_thread(thrice.wait)

    asyncio.run(run())
    assert len(compared) >= 3
