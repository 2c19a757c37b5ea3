"""Watches a source: updates the store on every change, and records the watcher status in the store.

::

    subscribe ──> reconcile ──> first event, or a short while ──> reconcile ──> events … ──> stream lost
        ^                                                                                        │
        └─────────────────────────────── back off ───────────────────────────────────────────────┘

A subscription is silent until its first event, so a change can happen after a reconcile but before the
subscription takes effect; the second reconcile finds it. An event only names a reference to read again from the
source, and several pending events of one reference cause one read. A reference whose content has not arrived is
listed in incomplete_refs and retried. A restart loses nothing: the first reconcile finds every change. An event of
a container makes the store look at that container.

The status is written in the sync's own transactions, so that a change costs one fsync, not two.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from imagekeep.allocator import trim
from imagekeep.content_look import look_at_containers
from imagekeep.errors import (
    AlreadyWatchedError,
    ImagekeepError,
    NewerSchemaError,
    SourceMismatchError,
    SourceUnavailableError,
    StoreReplacedError,
    printable,
)
from imagekeep.internals import (
    incarnation,
    record_watcher,
    release_memory,
    require_current_schema,
    require_same_source,
    require_source,
    watcher_lock,
)
from imagekeep.sources.protocol import ContainerEvent, Disconnectable, identity_of, require_watchable
from imagekeep.sync import sync
from imagekeep.times import current_time
from imagekeep.watcher_status import WatcherState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from imagekeep.sources.protocol import Events, SourceEvent
    from imagekeep.store import Store
    from imagekeep.transition import Transition

    AnyEvent = SourceEvent | ContainerEvent

log = logging.getLogger("imagekeep.watch")


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """The watcher's intervals in seconds."""

    settle: float = 1.0
    """Before the second reconcile, unless an event arrives first."""

    reconcile: float = 600.0
    """Between reconciles, which find changes without an event."""

    retry: float = 0.25
    """Before the first retry of a reference that could not be read; doubled each time."""

    back_off: float = 0.1
    """Before the first reconnection to a lost source; doubled each time."""

    max_delay: float = 30.0
    """Maximum of `retry` and `back_off`."""

    check: float = 2.0
    """Between checks for a replaced store; a restored one has missed events."""

    rest: float = 5.0
    """Between the last sync and closing the connection to the source, which costs something while it is idle."""


class Watcher:
    """Keeps a store up to date with its source until stopped.

    `source_name` is the source's name in messages and in the status, by default its specifier. Raises
    FailedPreconditionError if the store's source is not Watchable.
    """

    def __init__(
        self, store: Store, *, source_name: str | None = None, intervals: WatchIntervals | None = None
    ) -> None:
        self._store = store
        source = require_source(store)
        name = source_name or str(identity_of(source) or "custom source")
        self._source = require_watchable(source, name)
        self._intervals = intervals or WatchIntervals()
        self._inbox: SimpleQueue[AnyEvent | ImagekeepError | None] = SimpleQueue()
        self._retries = _Retries(self._intervals)
        self._stopping = threading.Event()
        self._rest_at = float("inf")
        self.state = WatcherState(os.getpid(), name, started_at=current_time())

    def run(self, on_start: Callable[[], object] | None = None) -> None:
        """Follow the source until `stop` is called; retry when the source or the store fails.

        Calls `on_start` once this is the store's only watcher. Raises AlreadyWatchedError if another runs,
        SourceMismatchError if the store follows another source, now or later, and NewerSchemaError if another
        release migrates the store: the service manager then starts that release.
        """
        with watcher_lock(self._store) as take_lock:
            require_same_source(self._store)
            self._try_to_record()
            if on_start:
                on_start()
            try:
                self._run(take_lock)
            finally:
                self._try_to_record(connected_at=None, stopped_at=current_time())
        log.info("stopped following %s", self.state.source)

    def _run(self, take_lock: Callable[[], None]) -> None:
        """Follow the source repeatedly, backing off until a connection has lasted a while.

        Otherwise a source whose stream always ends at once would be polled in a tight loop.
        """
        pause = self._intervals.back_off
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                require_current_schema(self._store)
                take_lock()
                self._follow(take_lock)
            except (AlreadyWatchedError, NewerSchemaError, SourceMismatchError):
                raise
            except ImagekeepError as error:
                if self._stopping.is_set():
                    break
                if time.monotonic() - begun > self._intervals.max_delay:
                    pause = self._intervals.back_off
                self._record_error(error, first=pause == self._intervals.back_off)
                self._stopping.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
                pause = min(pause * 2, self._intervals.max_delay)

    def stop(self) -> None:
        """Stop `run` from another thread; calls in flight fail at once.

        Do not call it from a signal handler, which could wait for a lock that the interrupted thread holds.
        """
        self._stopping.set()
        self._inbox.put(None)
        self._source.close()

    def _follow(self, take_lock: Callable[[], None]) -> None:
        """Subscribe, reconcile, and process events until the source, the stream or the store is lost."""
        with contextlib.closing(_EventThread(self._source.subscribe(), self._inbox)):
            store = incarnation(self._store)
            self._reconcile()
            self._record(connected_at=current_time())
            log.info("following %s", self.state.source)
            settled, now = False, time.monotonic()
            settle_at, reconcile_at = now + self._intervals.settle, now + self._intervals.reconcile
            while not self._stopping.is_set():
                wake_at = min(reconcile_at if settled else settle_at, self._retries.next_at())
                waiting, containers = self._take(min(wake_at - time.monotonic(), self._intervals.check))
                now = time.monotonic()
                if incarnation(self._store) != store:
                    raise StoreReplacedError(f"store {printable(self._store.path)}: replaced by another")
                require_current_schema(self._store)
                take_lock()  # again, if the lock file was deleted
                if (not settled and (waiting or containers or now >= settle_at)) or now >= reconcile_at:
                    settled, reconcile_at = True, now + self._intervals.reconcile
                    self._reconcile()
                    continue
                if references := [*waiting, *self._retries.due(now)]:
                    self._sync(references)
                if containers:
                    look_at_containers(self._store, containers)
                    self._rest_at = now + self._intervals.rest
                if now >= self._rest_at:
                    self._rest()

    def _take(self, seconds: float) -> tuple[list[str], list[str]]:
        """Wait for an event; return the references and the containers of all pending ones, each once.

        Raises the error that ended the stream.
        """
        events: list[AnyEvent] = []
        with contextlib.suppress(Empty):
            item = self._inbox.get(timeout=max(0.0, seconds))
            while True:
                if isinstance(item, ImagekeepError):
                    raise item
                if item is not None:
                    events.append(item)
                if len(events) >= MAX_EVENTS:  # the stream may be as fast as this loop
                    break
                item = self._inbox.get_nowait()
        if events:
            self.state = replace(
                self.state, events=self.state.events + len(events), last_event_at=max(e.at for e in events)
            )
        references = (event.reference for event in events if not isinstance(event, ContainerEvent))
        containers = (event.container_id for event in events if isinstance(event, ContainerEvent))
        return list(dict.fromkeys(references)), list(dict.fromkeys(containers))

    def _reconcile(self) -> None:
        """Sync all references."""
        self._sync()
        self._record(reconciles=self.state.reconciles + 1, last_reconcile_at=current_time())

    def _sync(self, references: Iterable[str] | None = None) -> None:
        """Sync references, log the changes, and schedule retries."""
        report = sync(self._store, references, status=self._status_after)
        for reference, transition in report.changed.items():
            extra = {"transition": transition, "reference": reference}
            if image_id := report.image_ids.get(reference):
                log.info("%s %s %s", transition, reference, image_id, extra=extra | {"image_id": image_id})
            else:
                log.info("%s %s", transition, reference, extra=extra)
        for reference, error in report.failures.items():
            # A reference that keeps failing is retried twice a minute: warn once.
            level = logging.DEBUG if self._retries.has(reference) else logging.WARNING
            log.log(level, "cannot read %s: %s", reference, error, extra={"reference": reference})
        self._retries.update(report.transitions, report.failures)
        self._rest_at = time.monotonic() + self._intervals.rest

    def _rest(self) -> None:
        """Close the connection to the source until the next sync, and return what the last one took."""
        self._rest_at = float("inf")
        if isinstance(self._source, Disconnectable):
            self._source.disconnect()
        with contextlib.suppress(ImagekeepError):  # the store's next use will report it
            release_memory(self._store)
        trim()

    def _status_after(
        self, transitions: Mapping[str, Transition], failures: Mapping[str, ImagekeepError]
    ) -> WatcherState:
        """Return the status after these transitions and failures."""
        changes = sum(transition.changed for transition in transitions.values())
        last_error = str(next(iter(failures.values()))) if failures else self.state.last_error
        self.state = replace(
            self.state,
            changes=self.state.changes + changes,
            errors=self.state.errors + len(failures),
            last_error=last_error,
        )
        return self.state

    def _record_error(self, error: ImagekeepError, *, first: bool) -> None:
        """Log and record an error of source or store; log a repeated error once."""
        again = not first and str(error) == self.state.last_error
        log.log(logging.DEBUG if again else logging.ERROR, "%s", error)
        self.state = replace(self.state, errors=self.state.errors + 1, last_error=str(error))
        self._try_to_record(connected_at=None)

    def _try_to_record(self, **changes: int | datetime | None) -> None:
        """Record the status; log an error instead of raising it."""
        try:
            self._record(**changes)
        except ImagekeepError as failure:
            log.error("cannot record the watcher status: %s", failure)

    def _record(self, **changes: int | datetime | None) -> None:
        """Update the status and write it to the store."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        record_watcher(self._store, self.state)


MAX_EVENTS = 10_000
"""Maximum pending events; with more, the watcher reconnects and reconciles instead."""

MAX_CHARACTERS = 8 << 20
"""Maximum total length of their names; one may have 32,768 bytes."""


class _EventThread:
    """Moves events from a blocking subscription to the watcher's inbox, in a thread."""

    def __init__(self, events: Events, inbox: SimpleQueue[AnyEvent | ImagekeepError | None]) -> None:
        self._events = events
        self._inbox = inbox
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="imagekeep-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        lost: ImagekeepError = SourceUnavailableError("source ended the event stream")
        characters = 0
        try:
            for event in self._events:
                characters = len(_name_in(event)) + (0 if self._inbox.empty() else characters)
                if self._inbox.qsize() >= MAX_EVENTS or characters > MAX_CHARACTERS:
                    lost = SourceUnavailableError("source sends events too fast")
                    break
                self._inbox.put(event)
        except ImagekeepError as error:
            lost = error
        finally:
            # Without this, the watcher would wait for events forever.
            if not self._closing:
                self._inbox.put(lost)

    def close(self) -> None:
        """Cancel the subscription and empty the inbox; the next reconcile finds those changes."""
        self._closing = True
        self._events.cancel()
        self._thread.join()
        with contextlib.suppress(Empty):
            while True:
                self._inbox.get_nowait()


def _name_in(event: AnyEvent) -> str:
    """Return the name of what changed."""
    return event.container_id if isinstance(event, ContainerEvent) else event.reference


class _Retries:
    """Schedules retries of unreadable references, each with its own back-off."""

    def __init__(self, intervals: WatchIntervals) -> None:
        self._intervals = intervals
        self._waits: dict[str, tuple[float, float]] = {}

    def update(self, done: Iterable[str], failed: Iterable[str]) -> None:
        """Remove the references that are done and schedule those that failed."""
        for reference in done:
            self._waits.pop(reference, None)
        for reference in failed:
            _, wait = self._waits.get(reference, (0.0, self._intervals.retry / 2))
            wait = min(wait * 2, self._intervals.max_delay)
            self._waits[reference] = (time.monotonic() + wait, wait)

    def has(self, reference: str) -> bool:
        """Return whether a reference is waiting for a retry."""
        return reference in self._waits

    def next_at(self) -> float:
        """Return the monotonic time of the next retry, or infinity."""
        return min((at for at, _ in self._waits.values()), default=float("inf"))

    def due(self, now: float) -> list[str]:
        """Return the references to retry now."""
        return [reference for reference, (at, _) in self._waits.items() if at <= now]
