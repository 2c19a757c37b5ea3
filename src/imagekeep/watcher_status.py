"""The watcher status and the incomplete references that a store keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from imagekeep.times import to_microseconds


@dataclass(frozen=True, slots=True)
class WatcherState:
    """The status of a store's last watcher.

    `connected_at` is None while the watcher is not connected to the source, and `stopped_at` until it stops; a
    watcher that was killed never sets it. Only its lock says whether it runs (`Reader.is_watched`): `process_id` is
    for people, and may be of another PID namespace.
    """

    process_id: int
    source: str
    started_at: datetime
    connected_at: datetime | None = None
    last_event_at: datetime | None = None
    last_reconcile_at: datetime | None = None
    events: int = 0
    reconciles: int = 0
    changes: int = 0
    errors: int = 0
    last_error: str | None = None
    stopped_at: datetime | None = None


def status_row(state: WatcherState) -> dict[str, Any]:
    """Return the fields of a watcher's status as the database has them, with times in microseconds."""
    return {
        name: to_microseconds(value) if isinstance(value, datetime) else value
        for name, value in asdict(state).items()
    }


@dataclass(frozen=True, slots=True)
class IncompleteReference:
    """A reference at the source whose image could not be read: since when, and when last tried."""

    reference: str
    error: str
    since: datetime
    tried_at: datetime
    tries: int


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """The usage of the image filesystem that the source last reported; `at` in microseconds since 1970, UTC."""

    mountpoint: str
    used_bytes: int | None
    inodes_used: int | None
    at: int
