"""Filters of `imagekeep images`: what `-f KEY=VALUE` means, without a store.

::

    filter   := key operator value
    operator := "=" | "!="                              every key
             | "<" | "<=" | ">" | ">="                  sizes, times and durations

Filters are joined by AND; several `reference=` filters by OR. `before`, `since`, `created` and `until` compare the
time in the image's config, or when the store first had the image if its config has none.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable


class Kind(enum.Enum):
    """What a filter's value is."""

    TEXT = enum.auto()
    TRUTH = enum.auto()
    IMAGE = enum.auto()
    SIZE = enum.auto()
    MOMENT = enum.auto()
    DURATION = enum.auto()
    STATE = enum.auto()


class Operator(enum.StrEnum):
    """How a filter compares."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


KEYS: Final = {
    "reference": Kind.TEXT,
    "id": Kind.TEXT,
    "digest": Kind.TEXT,
    "label": Kind.TEXT,
    "layer": Kind.TEXT,
    "platform": Kind.TEXT,
    "registry": Kind.TEXT,
    "repository": Kind.TEXT,
    "dangling": Kind.TRUTH,
    "untagged": Kind.TRUTH,
    "pinned": Kind.TRUTH,
    "in-use": Kind.TRUTH,
    "before": Kind.IMAGE,
    "since": Kind.IMAGE,
    "until": Kind.MOMENT,
    "created": Kind.MOMENT,
    "first-seen": Kind.MOMENT,
    "unused-for": Kind.DURATION,
    "size": Kind.SIZE,
    "state": Kind.STATE,
}
"""Every key, in the order in which an error lists them."""

STATES: Final = ("complete", "partial", "absent")
ALIASES: Final = {"after": "since"}
_ORDERED: Final = (Kind.SIZE, Kind.MOMENT, Kind.DURATION)
_ONLY_EQUAL: Final = ("until",)
_FILTER: Final = re.compile(r"([^=!<>]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: its key is one of KEYS, and its operator one that the key has."""

    key: str
    operator: Operator
    value: str

    @property
    def negated(self) -> bool:
        """Return whether the filter keeps what the same filter with `=` leaves out."""
        return self.operator is Operator.NOT_EQUAL

    @property
    def truth(self) -> bool:
        """Return the value of a filter that is true or false, with its negation applied."""
        return (self.value in _TRUE) is not self.negated


def parse_filters(texts: Iterable[str]) -> tuple[Filter, ...]:
    """Parse filters; raises InvalidArgumentError, for an unknown key with the known ones."""
    filters = tuple(map(parse_filter, texts))
    truths: dict[str, bool] = {}
    for parsed in filters:
        if KEYS[parsed.key] is Kind.TRUTH and truths.setdefault(parsed.key, parsed.truth) != parsed.truth:
            raise InvalidArgumentError(f"filter {parsed.key}: is both true and false (no image can match)")
    return filters


def parse_filter(text: str) -> Filter:
    """Parse one filter; raises as `parse_filters` does."""
    match = _FILTER.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"invalid filter {printable(text)!r}: write KEY=VALUE or KEY!=VALUE")
    key = ALIASES.get(match[1], match[1])
    if key not in KEYS:
        raise InvalidArgumentError(
            f"unknown filter key {printable(match[1])!r}: use one of {', '.join(KEYS)}"
        )
    if not _is_encodable(text):
        raise InvalidArgumentError(f"invalid filter {printable(text)!r}: it is not valid UTF-8")
    parsed = Filter(key, Operator(match[2]), match[3])
    _check(parsed)
    return parsed


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(parsed: Filter) -> None:
    kind = KEYS[parsed.key]
    is_ordered = kind in _ORDERED and parsed.key not in _ONLY_EQUAL
    if parsed.operator not in (Operator.EQUAL, Operator.NOT_EQUAL) and not is_ordered:
        raise InvalidArgumentError(f"filter {parsed.key}: use = or !=, not {parsed.operator}")
    if kind is Kind.TRUTH and parsed.value not in _TRUE + _FALSE:
        raise InvalidArgumentError(f"filter {parsed.key}: {printable(parsed.value)!r} is not true or false")
    if kind is Kind.STATE and parsed.value not in STATES:
        raise InvalidArgumentError(
            f"filter {parsed.key}: {printable(parsed.value)!r} is not one of {', '.join(STATES)}"
        )
