"""Compiles filters of images to bound SQL, in the caller's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import filter_statements as statements
from imagekeep.database.freeing import find_on_any_platform, names_of_images
from imagekeep.digest import parse_query
from imagekeep.errors import InvalidReferenceError
from imagekeep.platform import Platform
from imagekeep.questions.filters import KEYS, Filter, Kind, Operator
from imagekeep.questions.globs import ReferenceGlob
from imagekeep.questions.moments import SECOND, parse_duration, parse_moment, parse_period
from imagekeep.questions.sizes import parse_size
from imagekeep.reference import parse_normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.database.driver import sqlite

_NO_RANGE = ("", "")
_GLOB_SPECIAL = {"[": "[[]", "?": "[?]"}
_NANOSECONDS_IN_A_MICROSECOND = 1_000


class Condition(NamedTuple):
    """A condition on a row of `images`, and its parameters."""

    sql: str
    parameters: tuple[object, ...]


def compile_filters(cursor: sqlite.Cursor, filters: Sequence[Filter], now: int) -> list[Condition]:
    """Return the conditions of filters; several `reference=` are one. Raises as `list_images` does."""
    positive = [each for each in filters if each.key == "reference" and not each.negated]
    others = [each for each in filters if each not in positive]
    compiled = [_references([each.value for each in positive])] if positive else []
    return compiled + [_condition(cursor, each, now) for each in others]


def _condition(cursor: sqlite.Cursor, one: Filter, now: int) -> Condition:
    match KEYS[one.key]:
        case Kind.TRUTH:
            sql = _TRUTHS[one.key]
            return Condition(sql if one.truth else statements.without(sql), ())
        case Kind.SIZE:
            return Condition(statements.SIZE[one.operator], (parse_size(one.value),))
        case Kind.DURATION:
            return _unused_for(one, now)
        case Kind.MOMENT:
            return _moment(one, now)
        case Kind.IMAGE:
            return _negate(one, _made(cursor, one))
        case Kind.STATE:
            return _negate(one, Condition(statements.STATE, (statements.STATE_NUMBERS[one.value],)))
        case Kind.TEXT:
            return _negate(one, _TEXTS[one.key](one.value))


def _negate(one: Filter, condition: Condition) -> Condition:
    return condition._replace(sql=statements.without(condition.sql)) if one.negated else condition


def _references(patterns: Sequence[str]) -> Condition:
    for pattern in patterns:
        ReferenceGlob(pattern)  # an error in SQL would be less clear
    return Condition(statements.REFERENCE, (json.dumps(list(patterns)),))


def _reference(pattern: str) -> Condition:
    return _references([pattern])


def _ranges(digest: str) -> tuple[str, ...]:
    """Return three ranges for a full or truncated digest, those that it does not need empty."""
    query = parse_query(digest)
    ranges = [bounds for bounds in query.ranges() if query.matches(bounds[0])]
    return tuple(bound for bounds in [*ranges, *[_NO_RANGE] * 3][:3] for bound in bounds)


def _id(value: str) -> Condition:
    return Condition(statements.ID, _ranges(value))


def _digest(value: str) -> Condition:
    return Condition(statements.DIGEST, _ranges(value) * 2)


def _layer(value: str) -> Condition:
    return Condition(statements.LAYER, _ranges(value) * 2)


def _label(value: str) -> Condition:
    """Let a `*` in the key stand for anything; `label=key=` is `label=key` (podman: filterLabels)."""
    key, _, text = value.partition("=")
    pattern = "".join(_GLOB_SPECIAL.get(character, character) for character in key)
    return Condition(statements.LABEL, (pattern, text, text))


def _platform(value: str) -> Condition:
    """Let a platform without an OS version stand for all versions, as in `windows(10.0.17763)/amd64`."""
    platform = Platform.parse(value).normalize().format_all()
    system, slash, rest = platform.partition("/")
    return Condition(statements.PLATFORM, (platform, f"{system}(*){slash}{rest}"))


def _registry(value: str) -> Condition:
    return Condition(statements.REGISTRY, ("docker.io" if value == "index.docker.io" else value,))


def _repository(value: str) -> Condition:
    try:
        name = parse_normalized(value).name
    except InvalidReferenceError:
        name = value
    return Condition(statements.REPOSITORY, (name, len(name) + 1, f"{name}:", f"{name}@"))


_TRUTHS = {
    "dangling": statements.DANGLING,
    "untagged": statements.UNTAGGED,
    "pinned": statements.PINNED,
    "in-use": statements.IN_USE,
}
_TEXTS = {
    "reference": _reference,
    "id": _id,
    "digest": _digest,
    "layer": _layer,
    "label": _label,
    "platform": _platform,
    "registry": _registry,
    "repository": _repository,
}


def _moment(one: Filter, now: int) -> Condition:
    """Compare a time; `=` is a date's whole day, or the time since `3h ago`."""
    if one.key == "until":
        return _negate(one, _compared("created", Operator.LESS, parse_moment(one.value, now)))
    if one.operator not in (Operator.EQUAL, Operator.NOT_EQUAL):
        return _compared(one.key, one.operator, parse_moment(one.value, now))
    start, end = parse_period(one.value, now)
    after, before = _compared(one.key, Operator.AT_LEAST, start), _compared(one.key, Operator.LESS, end)
    return _negate(one, Condition(f"{after.sql} AND {before.sql}", after.parameters + before.parameters))


def _compared(key: str, operator: Operator, moment: int) -> Condition:
    if key == "first-seen":
        return Condition(statements.FIRST_SEEN[operator], (moment // _NANOSECONDS_IN_A_MICROSECOND,))
    return Condition(statements.CREATED[operator], divmod(moment, SECOND))


def _unused_for(one: Filter, now: int) -> Condition:
    """`unused-for=168h` is at least that long."""
    operator = {Operator.EQUAL: Operator.AT_LEAST, Operator.NOT_EQUAL: Operator.LESS}.get(
        one.operator, one.operator
    )
    duration = parse_duration(one.value) // _NANOSECONDS_IN_A_MICROSECOND
    return Condition(statements.UNUSED_FOR[operator], (now // _NANOSECONDS_IN_A_MICROSECOND, duration))


def _made(cursor: sqlite.Cursor, one: Filter) -> Condition:
    """Return the condition of `before` and `since`: strictly, to the nanosecond."""
    image_id = find_on_any_platform(one.value, names_of_images(cursor))
    moment = cursor.execute(statements.CREATION_OF_IMAGE, (image_id,)).fetchone()
    operator = Operator.LESS if one.key == "before" else Operator.MORE
    return Condition(statements.CREATED[operator], tuple(moment))
