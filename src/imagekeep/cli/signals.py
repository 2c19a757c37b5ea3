"""Ends a command that stays, when it is told to by a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.output import flush
from imagekeep.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = frozenset({signal.SIGTERM, signal.SIGINT})

GRACE = 0.5
"""Seconds in which what is under way may end, a wait for another process's lock for one; then it is left."""

log = logging.getLogger("imagekeep.cli")


class Ending:
    """What happens at SIGTERM and SIGINT: made by `ending_on_signals`."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._prepared = threading.Event()
        self._ended = threading.Event()
        self._stop: Callable[[], None] | None = None

    @property
    def asked(self) -> bool:
        """Return whether a signal has come."""
        return self._asked.is_set()

    def begin_with(self, stop: Callable[[], None]) -> None:
        """Call `stop`, from another thread, when a signal comes or if one has come."""
        self._stop = stop
        self._prepared.set()

    def wait(self) -> None:
        """Wait for a signal, then for the end, which is made short: what was committed is on the disk."""
        number = signal.sigwait(ENDING)
        self._asked.set()
        log.info("stopping: received %s", signal.Signals(number).name)
        notify("STOPPING=1")
        # Not in this thread, which has to see to the end even where `stop` itself has to wait.
        threading.Thread(target=self._begin, name="imagekeep-stop", daemon=True).start()
        if not self._ended.wait(GRACE):
            log.warning("shutdown timed out; what was under way is dropped")
            os._exit(ExitCode.OK)

    def end(self) -> None:
        """Note that all is done."""
        self._ended.set()

    def _begin(self) -> None:
        self._prepared.wait()
        if self._stop:
            self._stop()


@contextlib.contextmanager
def ending_on_signals() -> Iterator[Ending]:
    """Let SIGTERM and SIGINT end what is done in this context in good order, and then the process.

    A thread waits for the signals. A handler would run in the middle of what the main thread does, and wait for
    a lock that this holds. It begins before other threads are there, which take over what is blocked.
    """
    ending = Ending()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    threading.Thread(target=ending.wait, name="imagekeep-signals", daemon=True).start()
    try:
        yield ending
    finally:
        ending.end()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if ending.asked:
        # Python would take apart every module first, which takes it longer than all the rest.
        flush()
        os._exit(ExitCode.OK)
