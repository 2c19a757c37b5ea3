"""Follows the source in a thread beside the event loop, and tells whether anybody does."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from imagekeep.watch import Watcher
from imagekeep.watcher_status import timestamp

if TYPE_CHECKING:
    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.reader import Reader
    from imagekeep.watcher_status import WatcherState


class WatcherThread(threading.Thread):
    """Runs a watcher from now until `stop`.

    Where it cannot go on, `error` says why and `ended` is set on the loop that made it: a server whose answers
    grow old without notice is worse than one that is started again.
    """

    def __init__(self, store_factory: StoreFactory, source_name: str, ended: asyncio.Event) -> None:
        super().__init__(name="imagekeep-watch", daemon=True)
        self._store_factory = store_factory
        self._source_name = source_name
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._stopping = False
        self._watcher: Watcher | None = None
        self.error: BaseException | None = None
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
                watcher.run()
        except BaseException as error:
            if not self._stopping:  # what fails because it was told to end is no failure
                self.error = error
                self._loop.call_soon_threadsafe(self._ended.set)

    def stop(self) -> None:
        """End it soon; `join` waits for that."""
        with self._lock:
            self._stopping = True
            if self._watcher is not None:
                self._watcher.stop()


class CurrentWatcher:
    """Finds the watcher that follows the source now, by what it wrote in the store.

    A watcher that was killed never wrote that it ended. `own` tells that this process follows the source itself,
    from now on: what a process of the same id wrote before, as the first one of a container has, is not its word.
    """

    def __init__(self, reader: Reader, *, own: bool) -> None:
        self._reader = reader
        self._own = own
        self._begun = timestamp()

    def state(self) -> WatcherState | None:
        """Return how far it has come, or None where there is none; raises as `Reader.watcher` does."""
        state = self._reader.watcher()
        if state is None or state.stopped_at is not None or not self._reader.is_watched():
            return None
        if self._own and (state.process_id != os.getpid() or state.started_at < self._begun):
            return None
        return state
