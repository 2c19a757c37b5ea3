"""Follows the source in a thread beside the event loop, with a store of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from imagekeep.watch import Watcher

if TYPE_CHECKING:
    from imagekeep.cri.changes import Opening


class Following(threading.Thread):
    """Runs a watcher from now until `stop`.

    Where it cannot go on, `error` says why and `ended` is set on the loop that made it: a server whose answers
    grow old without notice is worse than one that is started again.
    """

    def __init__(self, opening: Opening, source_name: str, ended: asyncio.Event) -> None:
        super().__init__(name="imagekeep-watch", daemon=True)
        self._opening = opening
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
            with self._opening() as store:
                watcher = Watcher(store, source_name=self._source_name)
                with self._lock:
                    if self._stopping:
                        return
                    self._watcher = watcher
                watcher.run()
        except BaseException as error:
            if not self._stopping:
                self.error = error
                self._loop.call_soon_threadsafe(self._ended.set)

    def stop(self) -> None:
        """End it soon; `join` waits for that."""
        with self._lock:
            self._stopping = True
            if self._watcher is not None:
                self._watcher.stop()
