"""Makes the process safe to fork.

SQLite keeps its locks in process memory. A connection that is open during a fork is broken in the child: the child
believes that it holds its parent's locks (https://sqlite.org/howtocorrupt.html, 2.6). So when the process forks, no
connection is open and no thread is inside SQLite::

    fork ──> block new activities ──> wait for running ones ──> run `before` ──> fork ──> run `after_in_child`

An *activity* is a period in which the process must not fork, such as a write transaction. A fork waits for the
activities of other threads, and new ones wait for the fork. The forking thread cannot wait for its own activity;
`before` ends it by force.

A program that forks in C and runs only Python's hook for the child, as uWSGI does, skips all of this;
`after_in_child` is called with False.
"""

from __future__ import annotations

import contextlib
import os
import time
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT: Final = 60.0
"""Seconds to wait for other threads. A write transaction takes milliseconds, a large batch seconds. Then they are
interrupted, because a failed write is better than a fork that never returns."""

_PAUSE: Final = 0.0002
_FINALIZER_WAIT: Final = 0.1


class _Process:
    """The activities of this process, and the lock that blocks new ones."""

    def __init__(self) -> None:
        self.gate = RLock()
        self.at_rest = False
        self.activities: dict[object, int] = {}
        self.before: list[Callable[[], None]] = []
        self.after_in_child: list[Callable[[bool], None]] = []


_process = _Process()


def register(
    *, before: Callable[[], None] | None = None, after_in_child: Callable[[bool], None] | None = None
) -> None:
    """Register functions to run before every fork, the last registered first, and in the child.

    `after_in_child` is called with False if `before` was skipped.
    """
    if before is not None:
        _process.before.insert(0, before)
    if after_in_child is not None:
        _process.after_in_child.append(after_in_child)


def begin_activity() -> object:
    """Keep the process from forking until `end_activity` is called with the returned token.

    Waits for a fork in progress, except inside another activity of this thread, for which the fork waits.
    """
    gate, me, token = _process.gate, get_ident(), object()
    if not gate.acquire(blocking=False):
        if me in tuple(_process.activities.values()):
            _process.activities[token] = me
            return token
        gate.acquire()
    try:
        _process.activities[token] = me
    finally:
        gate.release()
    return token


def end_activity(token: object) -> None:
    """Let the process fork again; any thread may call this, also twice."""
    _process.activities.pop(token, None)


@contextlib.contextmanager
def activity() -> Iterator[None]:
    """Keep the process from forking until the context ends."""
    token = begin_activity()
    try:
        yield
    finally:
        end_activity(token)


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """Wait for the activities of other threads, and block new ones until the context ends."""
    gate = _process.gate
    with gate:
        _rest()
        try:
            yield
        finally:
            _process.at_rest = False


def unless_at_rest(action: Callable[[], None]) -> bool:
    """Run an action that no fork may interrupt; return False without running it if a fork is in progress.

    For finalizers: waiting for a fork that waits for their own thread would never end.
    """
    gate = _process.gate
    if _process.at_rest or not gate.acquire(timeout=_FINALIZER_WAIT):
        return False
    try:
        action()
    finally:
        gate.release()
    return True


def wait_until(done: Callable[[], bool], deadline: float) -> bool:
    """Wait until `done` returns True or until `deadline` on the monotonic clock; return whether it is done."""
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _rest() -> None:
    _process.at_rest = True
    if _process.activities:
        me = get_ident()
        wait_until(lambda: set(_process.activities.values()) <= {me}, time.monotonic() + WAIT)


def _before() -> None:
    """Bring the process to rest; the gate stays locked until after the fork."""
    _process.gate.acquire()
    _rest()
    for run in _process.before:
        run()


def _after_in_parent() -> None:
    _process.at_rest = False
    _process.gate.release()


def _after_in_child() -> None:
    """Reset the gate, and drop the activities of threads that do not exist in the child."""
    prepared, _process.at_rest = _process.at_rest, False
    _process.gate = RLock()
    me = get_ident()
    _process.activities = {token: thread for token, thread in _process.activities.items() if thread == me}
    for run in _process.after_in_child:
        run(prepared)


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
