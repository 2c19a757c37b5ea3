"""Writes changes of references to the tables inside the caller's transaction.

The statements are SQLAlchemy Core's, compiled once and run on the driver connection: run by Core each time, they
took a single update five times as long. What many references need is written in one `executemany` each, so that
a sync of thousands is bound by SQLite. References that move are written one by one: each can be the last of an
image that the next one moves to.
"""

from __future__ import annotations

from dataclasses import asdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, delete, exists, insert, literal_column, select, update
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.dialects.sqlite import insert as upsert

from imagekeep.database import statements
from imagekeep.database.schema import (
    configs,
    images,
    incomplete_refs,
    pinned_refs,
    ref_cache,
    reference_history,
    references,
    watcher,
)
from imagekeep.reference import sort_key
from imagekeep.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import ClauseElement

    from imagekeep.database.driver import sqlite
    from imagekeep.errors import ImagekeepError
    from imagekeep.identity import SourceIdentity
    from imagekeep.image import ObservedImage
    from imagekeep.transition import ReferenceChange
    from imagekeep.watcher_status import WatcherState

Row = dict[str, Any]


class _Statement(NamedTuple):
    """A statement in SQLite's own SQL, and what puts a row's values in the order of its parameters."""

    sql: str
    values: Callable[[Row], tuple[Any, ...]]


def _compiled(statement: ClauseElement) -> _Statement:
    """Compile a statement; it returns no rows that it adds.

    Its parameters stand by their places: the driver takes twice as long to run one that has them by name.
    """
    compiled = statement.compile(dialect=dialect(paramstyle="qmark"), for_executemany=True)
    names: list[str] = compiled.positiontup  # type: ignore[attr-defined]
    in_place = itemgetter(*names) if len(names) > 1 else lambda row: tuple(row[name] for name in names)
    return _Statement(str(compiled), in_place)


_key_of_image = select(images.c.image_key).where(images.c.id == bindparam("image_id"))
_key_of_reference = select(references.c.name, references.c.image_key).where(
    references.c.name == bindparam("reference_name")
)

# A known image keeps its first size, chain id and config (containerd: store.add).
_ADD_IMAGE = _compiled(
    upsert(images)
    .values(id=bindparam("image_id"), chain_id=bindparam("chain_id"), size=bindparam("size"))
    .on_conflict_do_nothing()
)
_ADD_CONFIG = _compiled(
    upsert(configs)
    .values(image_key=_key_of_image.scalar_subquery(), document=bindparam("document"))
    .on_conflict_do_nothing()
)
_ADD_REFERENCE = _compiled(
    insert(references).values(
        name=bindparam("reference_name"),
        image_key=_key_of_image.scalar_subquery(),
        sort_rank=bindparam("rank"),
        sort_name=bindparam("canonical"),
    )
)
_MOVE_REFERENCE = _compiled(
    update(references)
    .where(references.c.name == bindparam("reference_name"))
    .values(image_key=_key_of_image.scalar_subquery())
)
_REMOVE_REFERENCE = _compiled(delete(references).where(references.c.name == bindparam("reference_name")))
_ADD_PIN = _compiled(
    upsert(pinned_refs)
    .from_select([pinned_refs.c.reference, pinned_refs.c.image_key], _key_of_reference)
    .on_conflict_do_nothing()
)
_REMOVE_PIN = _compiled(delete(pinned_refs).where(pinned_refs.c.reference == bindparam("reference_name")))
_cache_of_reference = upsert(ref_cache).values(
    reference=bindparam("reference_name"),
    image_key=select(references.c.image_key)
    .where(references.c.name == bindparam("reference_name"))
    .scalar_subquery(),
    target_digest=bindparam("target"),
    platform=bindparam("wanted"),
    verified_at=bindparam("now"),
)
_VERIFY = _compiled(
    _cache_of_reference.on_conflict_do_update(
        index_elements=[ref_cache.c.reference],
        set_={
            column: _cache_of_reference.excluded[column]
            for column in ("target_digest", "platform", "verified_at")
        },
    )
)
_VERIFY_AGAIN = _compiled(
    update(ref_cache)
    .where(ref_cache.c.reference == bindparam("reference_name"))
    .values(verified_at=bindparam("now"))
)
_FORGET = _compiled(delete(ref_cache).where(ref_cache.c.reference == bindparam("reference_name")))
_RECORD = _compiled(
    insert(reference_history).values(
        reference=bindparam("reference_name"),
        image_id=bindparam("image_id"),
        target_digest=bindparam("target"),
        pinned=bindparam("is_pinned"),
        event=bindparam("what"),
        at=bindparam("now"),
    )
)
_ANY_INCOMPLETE = _compiled(select(exists(incomplete_refs.select()))).sql
_COMPLETE = _compiled(
    delete(incomplete_refs).where(incomplete_refs.c.reference == bindparam("reference_name"))
)
_incomplete = upsert(incomplete_refs)
_INCOMPLETE = _compiled(
    _incomplete.on_conflict_do_update(
        index_elements=[incomplete_refs.c.reference],
        set_={
            "error": _incomplete.excluded.error,
            "tried_at": _incomplete.excluded.tried_at,
            "tries": incomplete_refs.c.tries + literal_column("1"),
        },
    )
)
_RECORD_WATCHER = _compiled(insert(watcher).prefix_with("OR REPLACE"))


def write_changes(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write what the changes make of the tables; `now` is in microseconds since 1970, UTC."""
    # Most references of a sync are only verified, and an UPDATE takes a quarter of the upsert's time.
    verified = (change for change in changes if change.only_verifies)
    _run(cursor, _VERIFY_AGAIN, (_name_row(change) | {"now": now} for change in verified))
    if changed := [change for change in changes if not change.only_verifies]:
        _write_changed(cursor, changed, now)
    if cursor.execute(_ANY_INCOMPLETE).fetchone()[0]:
        _run(cursor, _COMPLETE, map(_name_row, changes))


def _write_changed(cursor: sqlite.Cursor, changes: Sequence[ReferenceChange], now: int) -> None:
    """Write the changes that do more than verify.

    New references come first, and those that vanish last, so that an image that only changes names stays.
    """
    new = [change for change in changes if change.transition is Transition.NEW]
    _run(cursor, _ADD_IMAGE, map(_image_row, new))
    _run(cursor, _ADD_CONFIG, map(_config_row, new))
    _run(cursor, _ADD_REFERENCE, map(_reference_row, new))
    for change in changes:
        if change.transition is Transition.MOVED:
            _run(cursor, _ADD_IMAGE, [_image_row(change)])
            _run(cursor, _ADD_CONFIG, [_config_row(change)])
            _run(cursor, _MOVE_REFERENCE, [_name_row(change) | {"image_id": _image(change).id}])
    # A reference that moved brought its pin along by cascade, and loses it here if it must.
    _run(cursor, _ADD_PIN, (_name_row(c) for c in changes if c.pins))
    _run(cursor, _REMOVE_PIN, (_name_row(c) for c in changes if c.unpins))
    _run(cursor, _VERIFY, (_cache_row(c, now) for c in changes if c.target_digest))
    # What the source said of a reference is void once it was moved without asking the source.
    _run(cursor, _FORGET, (_name_row(c) for c in changes if c.moved_locally))
    _run(cursor, _REMOVE_REFERENCE, (_name_row(c) for c in changes if c.after is None))
    _run(cursor, _RECORD, (_history_row(c, now) for c in changes if c.event))


def write_incomplete(cursor: sqlite.Cursor, failures: Mapping[str, ImagekeepError], now: int) -> None:
    """Note which references could not be read, and why."""
    rows = [
        {"reference": name, "error": str(error), "since": now, "tried_at": now, "tries": 1}
        for name, error in failures.items()
    ]
    _run(cursor, _INCOMPLETE, rows)


def write_watcher(cursor: sqlite.Cursor, state: WatcherState) -> None:
    """Note how far the watcher has come, in place of what was said before."""
    _run(cursor, _RECORD_WATCHER, [{"watcher_key": 1} | asdict(state)])


def write_source(cursor: sqlite.Cursor, source: SourceIdentity) -> None:
    """Remember which source the store follows."""
    cursor.execute(statements.FOLLOW_SOURCE, source)


def _run(cursor: sqlite.Cursor, statement: _Statement, rows: Iterable[Row]) -> None:
    """Run a statement for every row, which is nothing where there are none."""
    if values := list(map(statement.values, rows)):
        cursor.executemany(statement.sql, values)


def _image(change: ReferenceChange) -> ObservedImage:
    """Return the image that a new or moved reference names."""
    if change.image is None:
        raise ValueError(f"a reference that is {change.transition} needs its image")
    return change.image


def _name_row(change: ReferenceChange) -> Row:
    return {"reference_name": change.reference}


def _image_row(change: ReferenceChange) -> Row:
    image = _image(change)
    return {"image_id": image.id, "chain_id": image.chain_id, "size": image.size}


def _config_row(change: ReferenceChange) -> Row:
    image = _image(change)
    return {"image_id": image.id, "document": image.config_json}


def _reference_row(change: ReferenceChange) -> Row:
    rank, canonical = sort_key(change.reference)
    return {
        "reference_name": change.reference,
        "image_id": _image(change).id,
        "rank": rank,
        "canonical": None if canonical == change.reference else canonical,
    }


def _cache_row(change: ReferenceChange, now: int) -> Row:
    said = change.after
    return {
        "reference_name": change.reference,
        "target": said and said.target_digest,
        "wanted": said and said.platform,
        "now": now,
    }


def _history_row(change: ReferenceChange, now: int) -> Row:
    last = change.after or change.before
    return {
        "reference_name": change.reference,
        "image_id": last and last.image_id,
        "target": last and last.target_digest,
        "is_pinned": bool(change.after and change.after.pinned),
        "what": change.event,
        "now": now,
    }
