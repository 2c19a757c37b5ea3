"""Runs a watcher in a thread, and reports the status of this or another process's watcher."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.reader import Reader
    from imagekeep.watch import Watcher
    from imagekeep.watcher_status import WatcherState


class WatcherReport(Protocol):
    """Reports the status of a running watcher."""

    def state(self) -> WatcherState | None:
        """Return the watcher status, or None if no watcher runs."""
        ...


class WatcherThread(threading.Thread):
    """Runs a watcher from `begin` until `stop`.

    If the watcher fails, `error` is set and so is the event passed to `begin`: a server that silently serves old
    data is worse than one that restarts.
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
        """Start the thread; an error sets `ended` on the loop."""
        self._loop, self._ended = loop, ended
        self.start()

    def run(self) -> None:
        """Open the store and follow the source; runs in the thread."""
        try:
            # Imported here, in the thread: calls are answered meanwhile.
            from imagekeep.watch import Watcher

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
        """Return the status of this thread's watcher."""
        watcher = self._watcher
        return watcher.state if watcher is not None and self._follows.is_set() else None

    def stop(self) -> None:
        """Stop the watcher; `join` waits for the thread to end."""
        with self._lock:
            self._stopping = True
            if self._watcher is not None:
                self._watcher.stop()


class OtherWatcher:
    """Finds another process's watcher by its lock and its status in the store."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def state(self) -> WatcherState | None:
        """Return its status, or None if no watcher runs; raises as `Reader.watcher` and `is_watched` do."""
        state = self._reader.watcher()
        if state is None or state.stopped_at is not None or not self._reader.is_watched():
            return None
        return state
