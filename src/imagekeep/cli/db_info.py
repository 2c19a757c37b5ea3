"""`imagekeep db info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, output_format
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import NONE, format_time, human_size, table
from imagekeep.cli.output import write_all
from imagekeep.cli.settings import read_store
from imagekeep.database.driver import DRIVER, sqlite
from imagekeep.database.feed import newest_cursor
from imagekeep.database.files import size_on_disk
from imagekeep.database.lock import is_watched
from imagekeep.database.queries import count
from imagekeep.database.revision import HEAD, REVISIONS, read_schema, require_head, require_unchanged
from imagekeep.database.status import identity, incomplete_references, watcher_state
from imagekeep.errors import PermissionDeniedError, SchemaVersionError
from imagekeep.identity import SourceIdentity
from imagekeep.ship_status import read_ship_status
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from imagekeep.cli.settings import Settings
    from imagekeep.database.queries import Counts
    from imagekeep.identity import StoreIdentity
    from imagekeep.watcher_status import IncompleteReference, WatcherState


@command("imagekeep db info", "imagekeep db info -o json")
@output_format("table", "json", "yaml")
@click.pass_obj
def show_info(settings: Settings, output: str) -> None:
    """Show the store's revision, contents and watcher status.

    Also works for a store of an older or newer revision, and says what to do about it.
    """
    path = settings.path
    with read_store(path) as (connection, revision):
        cursor = connection.cursor()
        require_unchanged(read_schema(cursor, path), path)
        counts = count(cursor) if revision in REVISIONS else None
        document = describe(path, revision, counts)
        if revision == HEAD:
            document |= describe_identity(identity(cursor))
            document |= describe_watcher(path, watcher_state(cursor), incomplete_references(cursor))
            document |= describe_shipping(path, newest_cursor(cursor).sequence)
    if output == "table":
        write_all(table(_rows(document)))
    else:
        write_document(document, output)


def describe(path: Path, revision: str | None, counts: Counts | None) -> dict[str, Any]:
    """Return a store as a document; `size` is in bytes, and unknown values are null."""
    return {
        "path": str(path),
        "size": size_on_disk(path),
        "revision": revision,
        "newestRevision": HEAD,
        "advice": _advice(revision, path),
        "images": counts and counts.images,
        "references": counts and counts.references,
        "pinnedReferences": counts and counts.pinned_refs,
        "oldestVerified": counts and _time(counts.oldest_verified_at),
        "newestVerified": counts and _time(counts.newest_verified_at),
        "driver": DRIVER,
        "sqliteVersion": sqlite.sqlite_version,
    }


def describe_identity(identity: StoreIdentity) -> dict[str, Any]:
    """Return the store's id, the source and namespace that it follows, and its platforms, as a document."""
    follows = identity.follows
    return {
        "id": identity.store_id,
        "follows": follows and {"source": follows.specifier, "namespace": follows.namespace},
        "platforms": list(identity.platforms),
    }


def describe_watcher(
    path: Path, state: WatcherState | None, incomplete: list[IncompleteReference]
) -> dict[str, Any]:
    """Return the watcher status and the references that could not be read, as a document."""
    return {
        "watcher": state
        and {
            "processId": state.process_id,
            "running": _is_watched(path),
            "source": state.source,
            "started": _time(state.started_at),
            "connected": _time(state.connected_at),
            "lastEvent": _time(state.last_event_at),
            "lastReconcile": _time(state.last_reconcile_at),
            "stopped": _time(state.stopped_at),
            "events": state.events,
            "reconciles": state.reconciles,
            "changes": state.changes,
            "errors": state.errors,
            "lastError": state.last_error,
        },
        "incomplete": [
            {"reference": i.reference, "error": i.error, "since": _time(i.since), "tries": i.tries}
            for i in incomplete
        ],
    }


def describe_shipping(path: Path, newest: int) -> dict[str, Any]:
    """Return what was last shipped to a fleet's centre, as a document; `waiting` counts changes since."""
    status = read_ship_status(path)
    return {
        "shipping": status
        and {
            "centre": status.centre,
            "lastShipped": None
            if status.shipped_at is None
            else format_time(from_microseconds(status.shipped_at)),
            "lastTried": format_time(from_microseconds(status.tried_at)),
            "waiting": None if status.sequence is None else max(0, newest - status.sequence),
            "failures": status.failures,
            "lastError": status.error,
        }
    }


def _shipping_rows(shipping: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    for name, field in _SHIPPED.items() if shipping else ():
        yield name, str(shipping[field] if shipping and shipping[field] is not None else NONE)


def _is_watched(path: Path) -> bool | None:
    """Return whether a watcher runs, or None if this user may not read its lock."""
    try:
        return is_watched(path)
    except PermissionDeniedError:
        return None


def _time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)


def _advice(revision: str | None, path: Path) -> str | None:
    try:
        require_head(revision, path)
    except SchemaVersionError as error:
        return str(error)
    return None


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "store", document["path"]
    yield "size", human_size(document["size"])
    yield "revision", document["revision"] or NONE
    if document["advice"]:
        yield "", document["advice"]
    for name, field in _COUNTED.items():
        if document["images"] is not None:
            yield name, str(document[field] if document[field] is not None else NONE)
    if follows := document.get("follows"):
        yield "follows", str(SourceIdentity(follows["source"], follows["namespace"]))
    if platforms := document.get("platforms"):
        yield "platforms", ", ".join(platforms)
    yield from _watcher_rows(document.get("watcher"))
    for each in document.get("incomplete", ()):
        yield "incomplete", f"{each['reference']}: {each['error']} (since {each['since']})"
    yield from _shipping_rows(document.get("shipping"))
    yield "SQLite", f"{document['sqliteVersion']} ({document['driver']})"


def _watcher_rows(watcher: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    if watcher is None:
        return
    yield "watcher", f"PID {watcher['processId']}, {_RUNNING[watcher['running']]}"
    for name, field in _WATCHED.items():
        yield name, str(watcher[field] if watcher[field] is not None else NONE)


_RUNNING = {True: "running", False: "not running", None: "status unknown (permission denied on its lock)"}

_WATCHED = {
    "connected since": "connected",
    "last event": "lastEvent",
    "last reconcile": "lastReconcile",
    "events": "events",
    "reconciles": "reconciles",
    "changes": "changes",
    "errors": "errors",
    "last error": "lastError",
}

_SHIPPED = {
    "ships to": "centre",
    "last shipped": "lastShipped",
    "changes to ship": "waiting",
    "last ship error": "lastError",
}

_COUNTED = {
    "images": "images",
    "references": "references",
    "pinned references": "pinnedReferences",
    "oldest verified": "oldestVerified",
    "newest verified": "newestVerified",
}
