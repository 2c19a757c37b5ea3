"""Times as docker reads them, and ages in words as go-units writes them."""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.ages import age_in_words
from imagekeep.questions.moments import SECOND, parse_moment
from tests.conformance.data import cases

if TYPE_CHECKING:
    from tests.conformance.data import Case

ALL = cases("times")
TIMES = [pytest.param(case, id=name) for name, case in ALL if case["kind"] == "time"]
DURATIONS = [pytest.param(case, id=name) for name, case in ALL if case["kind"] == "duration"]

RFC_3339 = re.compile(r"(.{19})(?:\.(\d+))?(.*)")


class Departure(enum.StrEnum):
    """Where imagekeep reads a time otherwise than docker."""

    LOCAL = "a local time has the offset of its own date, not of today"
    WORDS = "'yesterday' and 'now' are times"
    UNITS = "days, weeks and spaces are allowed in a duration"
    SPACE = "a space may stand between date and time"


def nanoseconds(text: str) -> int:
    whole, fraction, zone = RFC_3339.fullmatch(text).groups()  # type: ignore[union-attr]
    seconds = datetime.fromisoformat(whole + zone).astimezone(UTC).timestamp()
    return int(seconds) * SECOND + int((fraction or "").ljust(9, "0"))


def departure(case: Case) -> Departure | None:
    value, is_error = case["value"], isinstance(case["docker"], dict)
    if is_error:
        if value in ("yesterday", "now", "today"):
            return Departure.WORDS
        if re.fullmatch(r"(\d+ ?[a-z]+ ?)*\d+ ?[dwhms]", value):
            return (
                Departure.UNITS if not value.endswith("9999999h") and not value.startswith("1h2026") else None
            )
        return Departure.SPACE if re.fullmatch(r"\d{4}-\d\d-\d\d [\d:]+", value) else None
    is_local = re.fullmatch(r"\d{4}-\d\d-\d\d(T[\d:.,]+)?", value) is not None
    return Departure.LOCAL if is_local and offset_then(case) != offset_now(case) else None


def offset_now(case: Case) -> Any:
    return datetime.fromtimestamp(nanoseconds(case["now"]) // SECOND, ZoneInfo(case["tz"])).utcoffset()


def offset_then(case: Case) -> Any:
    moment = case["value"].replace(",", ".")
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(case["tz"])).utcoffset()


def read(case: Case) -> int | None:
    try:
        return parse_moment(case["value"], nanoseconds(case["now"]), ZoneInfo(case["tz"]))
    except InvalidArgumentError:
        return None


@pytest.mark.parametrize("case", [case for case in TIMES if departure(case.values[0]) is None])  # type: ignore[arg-type]
def test_a_time_is_read_as_docker_reads_it(case: Case) -> None:
    expected = case["docker"]
    assert read(case) == (None if isinstance(expected, dict) else nanoseconds(expected))


@pytest.mark.parametrize(
    "case",
    [case for case in TIMES if departure(case.values[0]) is Departure.LOCAL],  # type: ignore[arg-type]
)
def test_a_local_time_has_the_offset_of_its_date(case: Case) -> None:
    correction = (offset_now(case) - offset_then(case)).total_seconds()
    assert read(case) == nanoseconds(case["docker"]) + int(correction) * SECOND


@pytest.mark.parametrize(
    "case",
    [case for case in TIMES if departure(case.values[0]) not in (None, Departure.LOCAL)],  # type: ignore[arg-type]
)
def test_what_docker_refuses_and_people_write_is_a_time(case: Case) -> None:
    assert read(case) is not None


def test_each_departure_is_met() -> None:
    assert {departure(case.values[0]) for case in TIMES} == {None, *Departure}  # type: ignore[arg-type]


@pytest.mark.parametrize("case", DURATIONS)
def test_an_age_is_written_as_go_units_writes_it(case: Case) -> None:
    expected = "1 year" if case["human"] == "1 years" else case["human"]
    assert age_in_words(case["seconds"]) == expected
