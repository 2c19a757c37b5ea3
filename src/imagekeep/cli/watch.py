"""`imagekeep watch`, and how it stops on SIGTERM and SIGINT."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

import click

from imagekeep.allocator import keep_small
from imagekeep.cli.command import command
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.logs import log_format, log_level, start_logging
from imagekeep.cli.open_store import open_store
from imagekeep.cli.output import flush
from imagekeep.sources.protocol import require_watchable
from imagekeep.systemd import notify
from imagekeep.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagekeep.cli.settings import Settings

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

GRACE = 0.5
"""Seconds for work in progress to finish, such as a wait for another process's lock."""

log = logging.getLogger("imagekeep.cli")


@command("imagekeep --source containerd watch", "imagekeep --source containerd watch --log-format json")
@log_format
@log_level
@click.pass_obj
def watch_source(settings: Settings, log_format: str, log_level: str) -> None:
    """Watch the source and update the store as it changes.

    Runs until SIGTERM or SIGINT. While the source is unavailable, the store keeps its last state, and `imagekeep db
    info` shows how old that is. A store can have one watcher; a second one is refused (exit code 4).
    """
    keep_small()
    start_logging(log_format, log_level)
    name = settings.source or ""
    probe = functools.partial(require_watchable, name=name)
    with (
        stopping_on_signals() as shutdown,
        open_store(settings, example="containerd", before_creating=probe) as store,
    ):
        watcher = Watcher(store, source_name=name)
        shutdown.on_signal(watcher.stop)
        # Ready before the source has answered: the store can already be queried.
        watcher.run(on_start=lambda: notify("READY=1"))


class Shutdown:
    """Waits for a signal, then stops the command within GRACE seconds; made by `stopping_on_signals`."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._prepared = threading.Event()
        self._finished = threading.Event()
        self._stop: Callable[[], None] | None = None

    @property
    def requested(self) -> bool:
        """Return whether a signal has arrived."""
        return self._requested.is_set()

    def on_signal(self, stop: Callable[[], None]) -> None:
        """Call `stop` from another thread when a signal arrives, or now if one has."""
        self._stop = stop
        self._prepared.set()

    def wait(self) -> None:
        """Wait for a signal, then end the process after GRACE seconds: committed changes are on disk."""
        number = signal.sigwait(STOP_SIGNALS)
        self._requested.set()
        log.info("stopping: received %s", signal.Signals(number).name)
        notify("STOPPING=1")
        # In another thread, because `stop` may block and this one enforces the timeout.
        threading.Thread(target=self._run_stop, name="imagekeep-stop", daemon=True).start()
        if not self._finished.wait(GRACE):
            log.warning("shutdown timed out; work in progress was dropped")
            os._exit(ExitCode.OK)

    def finish(self) -> None:
        """Disarm the timeout: everything has stopped."""
        self._finished.set()

    def _run_stop(self) -> None:
        self._prepared.wait()
        if self._stop:
            self._stop()


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[Shutdown]:
    """Stop what runs in this context on SIGTERM or SIGINT, then end the process.

    A thread waits for the signals, because a handler would interrupt the main thread and could wait for a lock that
    it holds. The signals are blocked before other threads start, which inherit the mask.
    """
    shutdown = Shutdown()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    threading.Thread(target=shutdown.wait, name="imagekeep-signals", daemon=True).start()
    try:
        yield shutdown
    finally:
        shutdown.finish()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if shutdown.requested:
        # Python's own shutdown takes longer than everything else.
        flush()
        os._exit(ExitCode.OK)
