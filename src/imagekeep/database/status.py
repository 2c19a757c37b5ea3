"""Reads a store's identity and status from rows, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import status_statements as statements
from imagekeep.database.queries import platforms
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, typed, typed_row

if TYPE_CHECKING:
    from datetime import datetime

    from imagekeep.database.driver import sqlite
    from imagekeep.identity import StoreIdentity
    from imagekeep.watcher_status import FilesystemUsage, IncompleteReference, WatcherState

_INCOMPLETE = (TEXT, TEXT, INTEGER, INTEGER, INTEGER)
_IDENTITY = (TEXT, TEXT_OR_NULL, TEXT_OR_NULL)
_IMAGE_FILESYSTEM = (TEXT, INTEGER_OR_NULL, INTEGER_OR_NULL, INTEGER)
_WATCHER = (INTEGER, TEXT, INTEGER, *[INTEGER_OR_NULL] * 3, *[INTEGER] * 4, TEXT_OR_NULL, INTEGER_OR_NULL)


def incomplete_references(cursor: sqlite.Cursor) -> list[IncompleteReference]:
    """Return the references whose images could not be read, by name."""
    from imagekeep.times import from_microseconds  # a command that reads must start quickly
    from imagekeep.watcher_status import IncompleteReference

    rows = typed(cursor.execute(statements.INCOMPLETE_REFERENCES), _INCOMPLETE)
    return [
        IncompleteReference(name, error, from_microseconds(since), from_microseconds(tried_at), tries)
        for name, error, since, tried_at, tries in rows
    ]


def identity(cursor: sqlite.Cursor) -> StoreIdentity:
    """Return which store it is and which source it follows."""
    from imagekeep.identity import SourceIdentity, StoreIdentity  # a command that reads must start quickly

    row = cursor.execute(statements.IDENTITY).fetchone() or ("", None, None)
    store_id, source, namespace = typed_row(row, _IDENTITY)
    follows = None if source is None else SourceIdentity(source, namespace)
    return StoreIdentity(store_id, follows, tuple(name for _, name in platforms(cursor) if name))


def watcher_state(cursor: sqlite.Cursor) -> WatcherState | None:
    """Return the status of the last watcher, or None if there was no watcher."""
    from imagekeep.times import from_microseconds  # a command that reads must start quickly
    from imagekeep.watcher_status import WatcherState

    row = cursor.execute(statements.WATCHER).fetchone()
    if row is None:
        return None
    process_id, source, started_at, *times, events, reconciles, changes, errors, error, stopped_at = (
        typed_row(row, _WATCHER)
    )
    connected_at, event_at, reconcile_at = map(_time, times)
    return WatcherState(
        process_id,
        source,
        from_microseconds(started_at),
        connected_at,
        event_at,
        reconcile_at,
        events,
        reconciles,
        changes,
        errors,
        error,
        _time(stopped_at),
    )


def image_filesystem(cursor: sqlite.Cursor) -> FilesystemUsage | None:
    """Return what the source last reported about its filesystem, or None if it never has."""
    from imagekeep.watcher_status import FilesystemUsage  # a command that reads must start quickly

    row = cursor.execute(statements.IMAGE_FILESYSTEM).fetchone()
    return FilesystemUsage(*typed_row(row, _IMAGE_FILESYSTEM)) if row else None


def _time(microseconds: int | None) -> datetime | None:
    from imagekeep.times import from_microseconds  # a command that reads must start quickly

    return None if microseconds is None else from_microseconds(microseconds)
