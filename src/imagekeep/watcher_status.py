"""The watcher status and the incomplete references that a store keeps."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WatcherState:
    """The status of a store's last watcher; times in microseconds since 1970, UTC.

    `connected_at` is None while it is not connected to the source, and `stopped_at` until it stops; a watcher that
    was killed never sets it. Whether it runs, only its lock says
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
    """A reference at the source whose image could not be read when last tried."""

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
    """Return the current time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000
