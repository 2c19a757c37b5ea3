"""What a store knows of its own currency: the time, the watcher of its source, and what could not be read."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatcherState:
    """How far the last watcher of a store has come; times in microseconds since 1970, UTC.

    `connected_at` is None while the source's events are not being heard, `stopped_at` while the watcher has not
    said that it ended: one that was killed never says so. Whether it runs, only its lock says
    (`Reader.is_watched`); `process_id` is for people, and may be of another PID namespace.
    """

    process_id: int
    source: str
    started_at: int
    connected_at: int | None = None
    last_event_at: int | None = None
    last_reconcile_at: int | None = None
    events: int = 0
    reconciles: int = 0
    changes: int = 0
    errors: int = 0
    last_error: str | None = None
    stopped_at: int | None = None


@dataclass(frozen=True, slots=True)
class IncompleteReference:
    """A reference that the source has, and whose image could not be read when it was last tried."""

    reference: str
    error: str
    since: int
    tried_at: int
    tries: int


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What the source last reported about the filesystem of its images; `at` in microseconds since 1970, UTC."""

    mountpoint: str
    used_bytes: int | None
    inodes_used: int | None
    at: int


def timestamp() -> int:
    """Return the time as a store keeps it: microseconds since 1970, UTC."""
    return time.time_ns() // 1000
