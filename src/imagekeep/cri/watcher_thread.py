"""Follows the source in a thread beside the event loop, and says who follows it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from imagekeep.watch import Watcher

if TYPE_CHECKING:
    import asyncio

    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.reader import Reader
    from imagekeep.watcher_status import WatcherState


class Following(Protocol):
    """Knows whether the source is followed."""

    def state(self) -> WatcherState | None:
        """Return how far the watcher has come, or None if there is none."""
        ...


class WatcherThread(threading.Thread):
    """Runs a watcher from `begin` until `stop`.

    If it cannot go on, `error` says why and the event given to `begin` is set: a server whose answers grow old
    without notice is worse than one that is started again.
    """

    def __init__(self, store_factory: StoreFactory, source_name: str) -> None:
        super().__init__(name="imagekeep-watch", daemon=True)
        self._store_factory = store_factory
        self._source_name = source_name
        self._lock = threading.Lock()
        self._stopping = False
        self._watcher: Watcher | None = None
        self._follows = threading.Event()
        self.error: BaseException | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """Start; an error sets `ended` on the loop."""
        self._loop, self._ended = loop, ended
        self.start()

    def run(self) -> None:
        """Open the store and follow the source; called by the thread."""
        try:
            with self._store_factory() as store:
                watcher = Watcher(store, source_name=self._source_name)
                with self._lock:
                    if self._stopping:
                        return
                    self._watcher = watcher
                watcher.run(on_start=self._follows.set)
        except BaseException as error:
            if not self._stopping:  # errors caused by stopping are expected
                self.error = error
                self._loop.call_soon_threadsafe(self._ended.set)
        finally:
            self._follows.clear()

    def state(self) -> WatcherState | None:
        """Return how far this thread's own watcher has come, whatever the store says about others."""
        watcher = self._watcher
        return watcher.state if watcher is not None and self._follows.is_set() else None

    def stop(self) -> None:
        """End it soon; `join` waits for that."""
        with self._lock:
            self._stopping = True
            if self._watcher is not None:
                self._watcher.stop()


class OtherWatcher:
    """Finds the watcher of another process by its lock, and by what it wrote in the store."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def state(self) -> WatcherState | None:
        """Return how far it has come, or None if none runs; raises as `Reader.watcher` and `is_watched` do."""
        state = self._reader.watcher()
        if state is None or state.stopped_at is not None or not self._reader.is_watched():
            return None
        return state
