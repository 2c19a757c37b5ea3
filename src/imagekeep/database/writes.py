"""Writes changes of references to the tables inside the caller's transaction.

What many references need is written in one `executemany` for each statement, so that a sync of thousands is
bound by SQLite. References that move are written one by one: each can be the last of an image that the next one
moves to.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from imagekeep.database import status_statements, write_statements
from imagekeep.database.content import write_targets
from imagekeep.database.rows import by_place, run
from imagekeep.reference import sort_key
from imagekeep.transition import FIRST, Transition
from imagekeep.watcher_status import status_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.database.rows import Row
    from imagekeep.errors import ImagekeepError
    from imagekeep.identity import SourceIdentity
    from imagekeep.image import ObservedImage
    from imagekeep.transition import ReferenceChange
    from imagekeep.watcher_status import FilesystemUsage, WatcherState

_ADD_IMAGE = by_place(write_statements.ADD_IMAGE)
_ADD_BLOB = by_place(write_statements.ADD_BLOB)
_ADD_DOCUMENT = by_place(write_statements.ADD_DOCUMENT)
_ADD_USAGE = by_place(write_statements.ADD_USAGE)
_ADD_REFERENCE = by_place(write_statements.ADD_REFERENCE)
_MOVE_REFERENCE = by_place(write_statements.MOVE_REFERENCE)
_REMOVE_REFERENCE = by_place(write_statements.REMOVE_REFERENCE)
_ADD_PIN = by_place(write_statements.ADD_PIN)
_REMOVE_PIN = by_place(write_statements.REMOVE_PIN)
_VERIFY = by_place(write_statements.VERIFY)
_VERIFY_AGAIN = by_place(write_statements.VERIFY_AGAIN)
_FORGET_TARGET = by_place(write_statements.FORGET_TARGET)
_RECORD_CHANGE = by_place(write_statements.RECORD_CHANGE)
_REMOVE_INCOMPLETE = by_place(status_statements.REMOVE_INCOMPLETE)
_RECORD_INCOMPLETE = by_place(status_statements.RECORD_INCOMPLETE)
_FOLLOW_SOURCE = by_place(status_statements.FOLLOW_SOURCE)
_RECORD_WATCHER = by_place(status_statements.RECORD_WATCHER)
_RECORD_IMAGE_FILESYSTEM = by_place(status_statements.RECORD_IMAGE_FILESYSTEM)


def write_changes(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write changes to the tables; `now` is in microseconds since 1970, UTC."""
    # Most references of a sync are only verified, and an UPDATE takes a quarter of the upsert's time.
    verified = [change for change in changes if change.only_verifies]
    run(cursor, _VERIFY_AGAIN, (_name_row(change) | {"verified_at": now} for change in verified))
    _write_targets(cursor, [change for change in verified if change.target])
    if changed := [change for change in changes if not change.only_verifies]:
        _write_changed(cursor, changed, now)
    if cursor.execute(status_statements.ANY_INCOMPLETE).fetchone()[0]:
        run(cursor, _REMOVE_INCOMPLETE, (_name_row(c) for c in changes if c.platform.key == FIRST.key))


def _write_changed(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write the changes that do more than verify.

    New references are written first and vanished ones deleted last, so that an image that only changes names stays.
    """
    new = [change for change in changes if change.transition is Transition.NEW]
    _write_targets(cursor, new)
    _add_images(cursor, new, now)
    run(cursor, _ADD_REFERENCE, map(_reference_row, new))
    _settle(cursor, new, now)
    for change in changes:
        # One by one: the target that one leaves may be the one that the next needs, and is deleted in between.
        if change.before is not None and change.after is not None:
            _write_targets(cursor, [change])
            if change.transition is Transition.MOVED:
                _add_images(cursor, [change], now)
                run(cursor, _MOVE_REFERENCE, [_reference_row(change)])
            _settle(cursor, [change], now)
    run(cursor, _RECORD_CHANGE, (_history_row(c, now) for c in changes if c.event))
    run(cursor, _REMOVE_REFERENCE, (_name_row(c) for c in changes if c.after is None))


def _add_images(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write the images that new or moved references name, if the store does not have them."""
    images = [_image(change) for change in changes]
    read = set().union(*(change.target.documents for change in changes if change.target))
    unread = [image for image in images if image.id not in read]
    run(cursor, _ADD_BLOB, (_blob_row(image.id, len(image.config_json)) for image in unread))
    run(cursor, _ADD_DOCUMENT, ({"digest": image.id, "document": image.config_json} for image in unread))
    run(cursor, _ADD_IMAGE, map(_image_row, changes))
    run(cursor, _ADD_USAGE, ({"image_id": image.id, "first_seen": now} for image in images))


def _settle(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write the pins and targets of references that exist."""
    # A moved reference has taken its pin along by cascade; it is removed here if it must be.
    run(cursor, _ADD_PIN, (_name_row(c) for c in changes if c.pins))
    run(cursor, _REMOVE_PIN, (_name_row(c) for c in changes if c.unpins))
    told = [change for change in changes if change.target_digest]
    run(cursor, _VERIFY, (_cache_row(c, now) for c in told))
    # A reference that was moved without asking the source has no known target.
    run(cursor, _FORGET_TARGET, (_name_row(c) for c in changes if c.moved_locally))


def _write_targets(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange]) -> None:
    """Write what the targets of these changes are made of, each target once; of one not read, only its digest."""
    write_targets(
        cursor, list({id(change.target): change.target for change in changes if change.target}.values())
    )
    run(cursor, _ADD_BLOB, (_blob_row(c.target_digest) for c in changes if c.target_digest and not c.target))


def write_incomplete(cursor: sqlite.Cursor, failures: Mapping[str, ImagekeepError], now: int) -> None:
    """Record which references could not be read, and why."""
    rows = [
        {"reference": name, "error": str(error), "since": now, "tried_at": now, "tries": 1}
        for name, error in failures.items()
    ]
    run(cursor, _RECORD_INCOMPLETE, rows)


def write_watcher(cursor: sqlite.Cursor, state: WatcherState) -> None:
    """Record the watcher's status, replacing the last."""
    run(cursor, _RECORD_WATCHER, [{"watcher_key": 1} | status_row(state)])


def write_image_filesystem(cursor: sqlite.Cursor, usage: FilesystemUsage) -> None:
    """Record what the source reports about its filesystem, replacing the last."""
    run(cursor, _RECORD_IMAGE_FILESYSTEM, [{"filesystem_key": 1} | asdict(usage)])


def write_source(cursor: sqlite.Cursor, source: SourceIdentity) -> None:
    """Record which source the store follows."""
    run(cursor, _FOLLOW_SOURCE, [{"source": source.specifier, "namespace": source.namespace}])


def _image(change: ReferenceChange) -> ObservedImage:
    """Return the image that a new or moved reference names."""
    if change.image is None:
        raise ValueError(f"a reference that is {change.transition} needs its image")
    return change.image


def _name_row(change: ReferenceChange) -> Row:
    return {
        "reference": change.reference,
        "name": change.reference,
        "platform_key": change.platform.key,
    }


def _blob_row(digest: str | None, size: int | None = None) -> Row:
    """Return the row of a blob when only its digest, and perhaps its size, is known."""
    return {"digest": digest, "media_type": None, "size": size, "present": None}


def _image_row(change: ReferenceChange) -> Row:
    image = _image(change)
    return {
        "id": image.id,
        "chain_id": image.chain_id,
        "size": image.size,
        "platform_key": change.platform.key,
    }


def _reference_row(change: ReferenceChange) -> Row:
    rank, canonical = sort_key(change.reference)
    return _name_row(change) | {
        "id": _image(change).id,
        "sort_rank": rank,
        "sort_name": None if canonical == change.reference else canonical,
    }


def _cache_row(change: ReferenceChange, now: int) -> Row:
    said = change.after
    return _name_row(change) | {
        "target_digest": said and said.target_digest,
        "manifest_digest": said and said.manifest_digest,
        "verified_at": now,
    }


def _history_row(change: ReferenceChange, now: int) -> Row:
    last = change.after or change.before
    return {
        "reference": change.reference,
        "image_id": last and last.image_id,
        "target_digest": last and last.target_digest,
        "pinned": bool(change.after and change.after.pinned),
        "event": change.event,
        "at": now,
        "platform_key": change.platform.key,
        "platform": change.platform.name,
    }
