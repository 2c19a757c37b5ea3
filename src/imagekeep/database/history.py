"""Reads the history of references, in the caller's transaction."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.database import question_statements as statements
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, texts, typed
from imagekeep.digest import is_digest, parse_query
from imagekeep.errors import AmbiguousError, InvalidArgumentError, InvalidReferenceError, NotFoundError
from imagekeep.questions.globs import ReferenceGlob
from imagekeep.questions.listed import ListedImage
from imagekeep.reference import parse_docker_ref, sort_references
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from imagekeep.database.driver import sqlite

EVENTS = ("recorded", "new", "moved", "retargeted", "pinned", "unpinned", "vanished")
"""What can happen to a reference, as the table's check lists it."""

NEVER = -1
"""No limit, as SQLite's LIMIT takes it."""

_LATEST = 2**63 - 1

_CHANGE = (INTEGER, INTEGER, TEXT, TEXT, TEXT, TEXT_OR_NULL, INTEGER, TEXT_OR_NULL)
_PAST = (TEXT, TEXT, TEXT_OR_NULL, INTEGER, INTEGER, INTEGER_OR_NULL)


class Change(NamedTuple):
    """A change to a reference: what it named from then on; when it vanished, until then."""

    sequence: int
    at: datetime
    event: str
    reference: str
    image_id: str
    target_digest: str | None
    pinned: bool
    platform: str | None


class PastReference(NamedTuple):
    """What a reference named at some time, and since when."""

    reference: str
    image_id: str
    target_digest: str | None
    pinned: bool
    since: datetime
    size: int | None


class ChangeFilter(NamedTuple):
    """Which changes to read: times in microseconds, patterns of references, events; None asks for all."""

    since: int | None = None
    until: int | None = None
    events: Sequence[str] | None = None
    not_events: Sequence[str] | None = None
    patterns: Sequence[str] | None = None
    not_patterns: Sequence[str] | None = None

    def parameters(self, after: int, count: int) -> dict[str, object]:
        """Return the parameters of the statement; raises InvalidArgumentError for a malformed pattern."""
        for pattern in (*(self.patterns or ()), *(self.not_patterns or ())):
            ReferenceGlob(pattern)
        lists = ("events", "not_events", "patterns", "not_patterns")
        bound = {name: _json(getattr(self, name)) for name in lists}
        return {"since": self.since, "until": self.until, "after": after, "count": count, **bound}


EVERYTHING = ChangeFilter()


def define_functions(cursor: sqlite.Cursor) -> None:
    """Define the functions of the statements on the cursor's connection."""
    cursor.connection.create_function("matches_reference", 3, _matches_reference, deterministic=True)


def changes(
    cursor: sqlite.Cursor, wanted: ChangeFilter = EVERYTHING, after: int = 0, count: int = NEVER
) -> list[Change]:
    """Return at most `count` changes with a sequence above `after`, newest first."""
    define_functions(cursor)
    return _changes(cursor.execute(statements.CHANGES, wanted.parameters(after, count)))


def changes_of(cursor: sqlite.Cursor, name: str) -> tuple[str, list[Change]]:
    """Return a reference or image id and its changes, oldest first; empty if the history knows neither.

    The name is tried as a reference spelt exactly so, a full id, a reference in any spelling, and a truncated id.
    Raises AmbiguousError for a truncated id of several images.
    """
    for candidate in _spellings(name):
        if found := changes_of_reference(cursor, candidate):
            return candidate, found
        if is_digest(candidate) and (found := _changes_of_image(cursor, candidate)):
            return candidate, found
    if spelt := _spelt_otherwise(cursor, name):
        return spelt, changes_of_reference(cursor, spelt)
    image_id = _complete_id(cursor, name)
    return (image_id, _changes_of_image(cursor, image_id)) if image_id else (name, [])


def references_as_of(cursor: sqlite.Cursor, at: int, platform: str | None = None) -> list[PastReference]:
    """Return what each reference named at a time in microseconds, for a platform, by default the first.

    Raises NotFoundError, with the time at which the history begins, for a time before it.
    """
    require_known(cursor, at)
    return [
        PastReference(reference, image_id, target, bool(pinned), from_microseconds(since), size)
        for reference, image_id, target, pinned, since, size, _ in typed(
            cursor.execute(statements.REFERENCES_AS_OF, {"at": at, "platform": platform}), _PAST
        )
    ]


def images_as_of(cursor: sqlite.Cursor, at: int, platform: str | None = None) -> list[ListedImage]:
    """Return every image as it was at a time in microseconds, in the order of ids.

    Raises as `references_as_of` does. The size is that of the time, else that of the image in the store.
    """
    by_image: dict[str, list[PastReference]] = {}
    for past in references_as_of(cursor, at, platform):
        by_image.setdefault(past.image_id, []).append(past)
    sizes = image_sizes(cursor)
    return [_past_image(image_id, by_image[image_id], sizes.get(image_id)) for image_id in sorted(by_image)]


def _past_image(image_id: str, references: list[PastReference], size: int | None) -> ListedImage:
    targets = {past.reference: past.target_digest for past in references}
    sizes = [past.size for past in references if past.size is not None]
    names = sort_references(targets)
    return ListedImage(
        image_id,
        tuple(names),
        sizes[-1] if sizes else size,
        any(past.pinned for past in references),
        targets=tuple(targets[name] for name in names),
        first_seen=None,
    )


class PastDifference(NamedTuple):
    """A reference that differs between a past time and now; an id is None while it named no image."""

    reference: str
    kind: str
    before: str | None
    now: str | None


def differences_since(cursor: sqlite.Cursor, at: int, platform: str | None = None) -> list[PastDifference]:
    """Return what differs between a time in microseconds and now; raises as `references_as_of` does."""
    before = {past.reference: past for past in references_as_of(cursor, at, platform)}
    now = {past.reference: past for past in references_as_of(cursor, _LATEST, platform)}
    return [
        PastDifference(name, kind, old.image_id if old else None, new.image_id if new else None)
        for name in sorted(before.keys() | now.keys())
        if (kind := _difference(old := before.get(name), new := now.get(name)))
    ]


def _difference(before: PastReference | None, now: PastReference | None) -> str | None:
    """Return how a reference differs in the words of `diff`, or None."""
    if before is None or now is None:
        return "added" if now else "gone"
    if before.image_id != now.image_id:
        return "moved"
    if before.pinned != now.pinned:
        return "pinned" if now.pinned else "unpinned"
    return None if before.target_digest == now.target_digest else "retargeted"


def require_known(cursor: sqlite.Cursor, at: int) -> None:
    """Raise NotFoundError for a time before the history begins."""
    row = cursor.execute(statements.FIRST_CHANGE).fetchone()
    if row[0] is None:
        raise NotFoundError("the history is empty: nothing was ever synced")
    if at < row[0]:
        began = from_microseconds(row[0]).isoformat(timespec="seconds").replace("+00:00", "Z")
        raise NotFoundError(f"unknown: the history begins at {began}")


def image_sizes(cursor: sqlite.Cursor) -> dict[str, int]:
    """Return the size of each image that the store has."""
    return dict(typed(cursor.execute(statements.IMAGE_SIZES), (TEXT, INTEGER)))


def _changes(rows: Iterable[tuple[Any, ...]]) -> list[Change]:
    return [
        Change(sequence, from_microseconds(at), event, reference, image_id, target, bool(pinned), platform)
        for sequence, at, event, reference, image_id, target, pinned, platform in typed(rows, _CHANGE)
    ]


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is, and as a reference in its normal form."""
    if _is_encodable(name):
        yield name
    try:
        yield str(parse_docker_ref(name))
    except InvalidReferenceError:  # it may still be an id
        return


def _is_encodable(name: str) -> bool:
    """Return whether a row can have this name: none has a lone surrogate."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def changes_of_reference(cursor: sqlite.Cursor, reference: str) -> list[Change]:
    """Return the changes of a reference, spelt exactly so, oldest first."""
    return _changes(cursor.execute(statements.CHANGES_OF_REFERENCE, (reference,)))


def _changes_of_image(cursor: sqlite.Cursor, image_id: str) -> list[Change]:
    return _changes(cursor.execute(statements.CHANGES_OF_IMAGE, (image_id,)))


def _spelt_otherwise(cursor: sqlite.Cursor, name: str) -> str | None:
    """Return a reference of the history whose normal form is that of `name`, or None."""
    wanted = _normal_form(name)
    rows = texts([reference for (reference,) in cursor.execute(statements.PAST_REFERENCES)])
    return next((found for found in rows if wanted and _normal_form(found) == wanted), None)


def _normal_form(name: str) -> str | None:
    try:
        return str(parse_docker_ref(name))
    except InvalidReferenceError:
        return None


def _complete_id(cursor: sqlite.Cursor, truncated: str) -> str | None:
    """Return the only image id of the history that a truncated one stands for, or None."""
    query = parse_query(truncated)
    found = [
        image_id
        for bounds in query.ranges()
        for (image_id,) in cursor.execute(statements.PAST_IMAGES_IN_RANGE, bounds)
        if query.matches(image_id)
    ]
    if len(found) > 1:
        raise AmbiguousError(truncated, found)
    return found[0] if found else None


def _json(values: Sequence[str] | None) -> str | None:
    return None if values is None else json.dumps(list(values))


@lru_cache(maxsize=64)
def _globs(patterns: str) -> tuple[ReferenceGlob, ...]:
    return tuple(map(ReferenceGlob, json.loads(patterns)))


def _matches_reference(patterns: str, reference: str, target_digest: str | None) -> bool:
    """Return whether any pattern of a JSON list matches a reference: a function of SQL."""
    return any(glob.matches_reference(reference, target_digest) for glob in _globs(patterns))


def require_event(event: str) -> str:
    """Return an event, or raise InvalidArgumentError that lists the known ones."""
    if event not in EVENTS:
        raise InvalidArgumentError(f"unknown event {event!r}: use one of {', '.join(EVENTS)}")
    return event
