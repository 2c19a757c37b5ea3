"""Reads images, references and their states from rows, in the caller's transaction.

Each function uses the caller's cursor, and leaves no rows unread when it returns: a cursor for each statement would
take a tenth of the time of a look-up.

Lists read each table in its own order and sort here: SQLite would look up each row by itself, in 1.6 times the
time.
"""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.database import statements
from imagekeep.database.row_types import (
    BLOB,
    INTEGER,
    INTEGER_OR_NULL,
    TEXT,
    TEXT_OR_NULL,
    texts,
    typed,
    typed_row,
)
from imagekeep.digest import ENCODED_LENGTHS, is_digest, parse_query
from imagekeep.errors import (
    CANDIDATES_LIMIT,
    AmbiguousError,
    ImageNotFoundError,
    InvalidReferenceError,
    printable,
)
from imagekeep.image import Image, ImageSummary
from imagekeep.reference import parse_docker_ref
from imagekeep.transition import FIRST, KeptPlatform, ReferenceState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from imagekeep.database.driver import sqlite
    from imagekeep.digest import DigestQuery


class HistoryEntry(NamedTuple):
    """One change to a reference: what it named from then on."""

    at: datetime
    event: str
    image_id: str
    target_digest: str | None
    pinned: bool


class Counts(NamedTuple):
    """How much a store holds, and when its source last confirmed the oldest and the newest reference."""

    images: int
    references: int
    pinned_refs: int
    oldest_verified_at: datetime | None
    newest_verified_at: datetime | None


NO_PLATFORM = -1
"""A key that no platform has."""

MAX_SINGLE_LOOKUPS = 1_000
"""References to look up one by one; for more, one scan takes a third of the time."""

Row = tuple[Any, ...]

_IMAGE = (INTEGER, TEXT, TEXT, INTEGER, BLOB)
_REFERENCE = (INTEGER, INTEGER, TEXT, TEXT)
_PLATFORM = (INTEGER, TEXT_OR_NULL)
_STATE = (TEXT, INTEGER, TEXT_OR_NULL, TEXT_OR_NULL)
_HISTORY = (INTEGER, TEXT, TEXT, TEXT_OR_NULL, INTEGER)
_COUNTS = (INTEGER, INTEGER, INTEGER, INTEGER_OR_NULL, INTEGER_OR_NULL)

_by_id = attrgetter("id")
_NO_RANGE = ("", "")
_WHOLE = len("sha256:") + ENCODED_LENGTHS["sha256"]


def platforms(cursor: sqlite.Cursor) -> list[KeptPlatform]:
    """Return the platforms that the store keeps, the first one first."""
    rows = typed(cursor.execute(statements.PLATFORMS), _PLATFORM)
    return [KeptPlatform(key, name) for key, name in rows]


def key_of(cursor: sqlite.Cursor, platform: str | None) -> int:
    """Return the key of a platform: that of the store's first for None, and NO_PLATFORM for one that it lacks."""
    if platform is None:
        return FIRST.key
    row = _one(cursor, statements.PLATFORM_KEY, platform)
    return NO_PLATFORM if row is None else int(row[0])


def find_image(cursor: sqlite.Cursor, image_id: str, platform: str | None = None) -> Image:
    """Return the image with a full or truncated id; raises as `find_id` does."""
    at = key_of(cursor, platform)
    row = _only_image(cursor, image_id, at)
    if row is None:
        row = cursor.execute(statements.IMAGE, (at, find_id(cursor, image_id, at))).fetchone()
    key, found_id, chain_id, size, document = typed_row(row, _IMAGE)
    references, pinned = _references_of(cursor, key)
    return Image(found_id, references, chain_id, size, pinned, document, platform=platform or "")


def find_id(cursor: sqlite.Cursor, image_id: str, platform_key: int = FIRST.key) -> str:
    """Return the full id that a full or truncated one stands for (go-digest: digestset's Lookup).

    Raises ImageNotFoundError, AmbiguousError with the first candidates of all that there are, or
    InvalidArgumentError for the empty id.
    """
    query = parse_query(image_id)
    ranges = query.ranges()
    if not ranges:
        raise no_such_image(image_id)
    bounds = [bound for pair in (*ranges, _NO_RANGE, _NO_RANGE)[:3] for bound in pair]
    try:
        rows = cursor.execute(statements.IDS_IN_RANGES, (platform_key, *bounds)).fetchall()
        return query.choose(texts([found for (found,) in rows]))
    except AmbiguousError:  # it has two candidates; only now is it worth finding all
        raise _ambiguous(cursor, query, platform_key) from None


def find_reference(cursor: sqlite.Cursor, reference: str, platform: str | None = None) -> str | None:
    """Return the id of the image that `reference`, spelt exactly so, names, or None."""
    if platform is None:
        row = _one(cursor, statements.RESOLVE, FIRST.key, reference)
    else:
        row = _one(cursor, statements.RESOLVE_FOR, platform, reference)
    return texts(row)[0] if row else None


def find_by_any_name(cursor: sqlite.Cursor, reference_or_id: str, platform: str | None = None) -> Image:
    """Return the image of a full digest, else of a reference once normalised, else of a truncated id.

    The order is that of containerd's LocalResolve (internal/cri/server/images); raises as `find_id` does.
    """
    if not is_digest(reference_or_id):
        with suppress(InvalidReferenceError):  # it may still be an id
            if found := find_reference(cursor, str(parse_docker_ref(reference_or_id)), platform):
                return find_image(cursor, found, platform)
    return find_image(cursor, reference_or_id, platform)


def find_by_name(cursor: sqlite.Cursor, name: str, platform: str | None = None) -> Image:
    """Return the image of a reference spelt exactly so, else as `find_by_any_name` does."""
    if found := find_reference(cursor, name, platform):
        return find_image(cursor, found, platform)
    return find_by_any_name(cursor, name, platform)


def each_image(cursor: sqlite.Cursor, after: str = "", platform: str | None = None) -> Iterator[Image]:
    """Yield the images whose ids follow `after`, in order; read the references of each as it is yielded."""
    others = cursor.connection.cursor()
    for row in cursor.execute(statements.IMAGES_BY_ID, (key_of(others, platform), after)):
        key, image_id, chain_id, size, document = typed_row(row, _IMAGE)
        references, pinned = _references_of(others, key)
        yield Image(image_id, references, chain_id, size, pinned, document, platform=platform or "")


def all_images(cursor: sqlite.Cursor, platform: str | None = None) -> list[Image]:
    """Return every image in the order of ids, with one scan of each table."""
    at, label = key_of(cursor, platform), platform or ""
    references, pinned = _references_by_image(cursor, at), _pinned_images(cursor)
    found = [
        Image(
            image_id,
            tuple(references.get(key, ())),
            chain_id,
            size,
            key in pinned,
            document,
            platform=label,
        )
        for key, image_id, chain_id, size, document in typed(cursor.execute(statements.IMAGES, (at,)), _IMAGE)
    ]
    found.sort(key=_by_id)
    return found


def images_of_all_platforms(cursor: sqlite.Cursor) -> list[Image]:
    """Return every image for each platform, in the order of ids, then of platforms; each has its platform."""
    names = [name for _, name in platforms(cursor) if name is not None]
    found = [image for name in names for image in all_images(cursor, name)]
    found.sort(key=_by_id)
    return found


def all_summaries(cursor: sqlite.Cursor, platform: str | None = None) -> list[ImageSummary]:
    """Return every image without its config in the order of ids, with one scan of each table."""
    at, label = key_of(cursor, platform), platform or ""
    references, pinned = _references_by_image(cursor, at), _pinned_images(cursor)
    rows = typed(cursor.execute(statements.IMAGES_WITHOUT_CONFIG, (at,)), _IMAGE)
    found = [
        ImageSummary(image_id, tuple(references.get(key, ())), chain_id, size, key in pinned, platform=label)
        for key, image_id, chain_id, size in rows
    ]
    found.sort(key=_by_id)
    return found


def is_pinned(cursor: sqlite.Cursor, image_id: str, reference: str, platform: str | None = None) -> bool:
    """Return whether `reference` pins the image with this full or truncated id; raises as `find_id` does."""
    at = key_of(cursor, platform)
    found = find_id(cursor, image_id, at)
    return _one(cursor, statements.IS_PINNED, at, found, reference) is not None


def state_of(cursor: sqlite.Cursor, reference: str, platform_key: int = FIRST.key) -> ReferenceState | None:
    """Return the state of one reference for a platform, or None."""
    row = _one(cursor, statements.REFERENCE_STATE, platform_key, reference)
    if row is None:
        return None
    image_id, pinned, target_digest, manifest_digest = typed_row(row, _STATE)
    return ReferenceState(image_id, bool(pinned), target_digest, manifest_digest)


def states_of(
    cursor: sqlite.Cursor, references: Collection[str], platform_key: int = FIRST.key
) -> dict[str, ReferenceState]:
    """Return the states of these references that the store has for a platform, and perhaps of others."""
    if len(references) > MAX_SINGLE_LOOKUPS:
        return states_of_platform(cursor, platform_key)
    return {name: state for name in references if (state := state_of(cursor, name, platform_key))}


def all_states(cursor: sqlite.Cursor, platform: str | None = None) -> dict[str, ReferenceState]:
    """Return the state of every reference for a platform."""
    return states_of_platform(cursor, key_of(cursor, platform))


def states_of_platform(cursor: sqlite.Cursor, platform_key: int) -> dict[str, ReferenceState]:
    """Return the state of every reference for the platform with a key."""
    rows = typed(cursor.execute(statements.REFERENCE_STATES, (platform_key,)), (TEXT, *_STATE))
    return {
        name: ReferenceState(image_id, bool(pinned), target_digest, manifest_digest)
        for name, image_id, pinned, target_digest, manifest_digest in rows
    }


def all_references(cursor: sqlite.Cursor, platform: str | None = None) -> list[str]:
    """Return every reference for a platform."""
    return texts([name for (name,) in cursor.execute(statements.NAMES, (key_of(cursor, platform),))])


def history_of(cursor: sqlite.Cursor, reference: str) -> list[HistoryEntry]:
    """Return every change to a reference, the oldest first."""
    from imagekeep.times import from_microseconds  # a command that reads must start quickly

    rows = typed(cursor.execute(statements.HISTORY_OF_REFERENCE, (reference,)), _HISTORY)
    return [
        HistoryEntry(from_microseconds(at), event, image_id, target, bool(pinned))
        for at, event, image_id, target, pinned in rows
    ]


def count(cursor: sqlite.Cursor) -> Counts:
    """Count what the store holds."""
    row = typed_row(cursor.execute(statements.COUNTS).fetchone(), _COUNTS)
    images, references, pins, oldest, newest = row
    return Counts(images, references, pins, _time(oldest), _time(newest))


def data_version(cursor: sqlite.Cursor) -> int:
    """Return the number that changes when another connection commits."""
    return int(cursor.execute(statements.DATA_VERSION).fetchone()[0])


def _time(microseconds: int | None) -> datetime | None:
    from imagekeep.times import from_microseconds  # a command that reads must start quickly

    return None if microseconds is None else from_microseconds(microseconds)


def _only_image(cursor: sqlite.Cursor, image_id: str, platform_key: int) -> Row | None:
    """Return the row of the image with a full id, or of the only one that a truncated id can stand for.

    None where it takes `find_id` to choose, or to say why there is none.
    """
    if len(image_id) >= _WHOLE:  # a full id that the store has needs no parsing
        return _one(cursor, statements.IMAGE, platform_key, image_id)
    query = parse_query(image_id)
    if not query.is_hex:
        return None
    bounds = query.range_of("sha256")
    rows: list[Row] = cursor.execute(statements.ONLY_IMAGE, (platform_key, *bounds)).fetchall()
    return rows[0] if len(rows) == 1 and query.matches(rows[0][1]) else None


def _ambiguous(cursor: sqlite.Cursor, query: DigestQuery, platform_key: int) -> AmbiguousError:
    """Return the error that lists the first candidates of a query, and counts them all."""
    candidates: list[str] = []
    total = 0
    for low, high in query.ranges():
        if query.matches(low):
            rows = cursor.execute(statements.IDS_IN_RANGE, (platform_key, low, high, CANDIDATES_LIMIT))
            candidates += [found for (found,) in rows]
            total += cursor.execute(statements.COUNT_IN_RANGE, (platform_key, low, high)).fetchone()[0]
    return AmbiguousError(query.text, sorted(candidates, key=_by_encoded), total)


def _by_encoded(image_id: str) -> list[str]:
    """Return the sort key of ids in digestset: the hex, then the algorithm."""
    return image_id.split(":")[::-1]


def _references_of(cursor: sqlite.Cursor, image_key: int) -> tuple[tuple[str, ...], bool]:
    """Return the references of one image in Sort's order, and whether any of them pins it."""
    rows = cursor.execute(statements.REFERENCES_OF_IMAGE, (image_key,)).fetchall()
    names, pins = zip(*rows, strict=True) if rows else ((), ())
    return texts(names), any(pins)


def _references_by_image(cursor: sqlite.Cursor, platform_key: int) -> dict[int, list[str]]:
    """Return the references of every image of a platform in Sort's order."""
    found: dict[int, list[str]] = {}
    rows = typed(cursor.execute(statements.REFERENCES, (platform_key,)), _REFERENCE)
    for key, _, _, name in sorted(rows):
        found.setdefault(key, []).append(name)
    return found


def _pinned_images(cursor: sqlite.Cursor) -> set[int]:
    """Return the keys of the images that a reference pins."""
    return {key for (key,) in cursor.execute(statements.PINNED_IMAGES)}


def _one(cursor: sqlite.Cursor, statement: str, *names: str | int) -> Any | None:
    """Return a statement's first row for names from outside, or None.

    A name that cannot be UTF-8 (it has a lone surrogate) is in no row.
    """
    try:
        return cursor.execute(statement, names).fetchone()
    except UnicodeEncodeError:
        return None


def no_such_image(name: str) -> ImageNotFoundError:
    """Return the error for a name or id that the store does not have."""
    return ImageNotFoundError(f"no such image: {printable(name)}")
