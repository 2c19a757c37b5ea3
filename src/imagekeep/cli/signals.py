"""Ends a command that stays, when it is told to by a signal."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from imagekeep.cli.exits import ExitCode
from imagekeep.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = frozenset({signal.SIGTERM, signal.SIGINT})

GRACE = 0.8
"""Seconds in which what is under way may end, a wait for another process's lock for one; then it is left."""

log = logging.getLogger("imagekeep.cli")


@contextlib.contextmanager
def ending_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM or SIGINT while the context lasts; leave the process if that is not enough.

    A thread waits for the signals. A handler would run in the middle of what the main thread does, and wait for
    a lock that this holds. It begins before other threads are there, which take over what is blocked.
    """
    ended = threading.Event()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    threading.Thread(target=_wait, args=(stop, ended), name="imagekeep-signals", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(stop: Callable[[], None], ended: threading.Event) -> None:
    """Wait for a signal, then for the end, which may be made short: what was committed is on the disk."""
    signal.sigwait(ENDING)
    notify("STOPPING=1")
    # Not in this thread, which has to see to the end even where `stop` itself has to wait.
    threading.Thread(target=stop, name="imagekeep-stop", daemon=True).start()
    if not ended.wait(GRACE):
        log.warning("left without waiting for what is under way")
        os._exit(ExitCode.OK)
