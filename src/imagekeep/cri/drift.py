"""Compares containerd's CRI with containerd's records on a schedule, for the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.cri.stale import Fault, find_stale
from imagekeep.errors import ImagekeepError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from imagekeep.cri.mutations import StoreFactory

log = logging.getLogger("imagekeep.cri")

FIRST: Final = 120.0
"""Seconds before the first comparison at most: the start of a node has more urgent work."""


class Drift(NamedTuple):
    """How many names differ, by fault, and when that was found, in seconds since 1970."""

    names: Mapping[Fault, int]
    at: float


class DriftCheck:
    """Keeps the result of the last comparison that succeeded.

    Opens the store and its source for each comparison: an idle connection would cost more.
    """

    def __init__(self, store_factory: StoreFactory, interval: float) -> None:
        """`interval` is in seconds."""
        self._store_factory = store_factory
        self._interval = interval
        self.last: Drift | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Compare within this context."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        await asyncio.sleep(min(FIRST, self._interval))
        while True:
            await asyncio.to_thread(self.compare)
            await asyncio.sleep(self._interval)

    def compare(self) -> None:
        """Compare once; log what prevents it."""
        try:
            with self._store_factory() as store:
                found = Counter(stale.fault for stale in find_stale(store))
        except ImagekeepError as error:
            log.warning("cannot compare containerd's CRI with its records: %s", error)
            return
        self.last = Drift({fault: found[fault] for fault in Fault}, time.time())
