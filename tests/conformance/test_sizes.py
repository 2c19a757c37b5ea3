"""Sizes: what docker/go-units prints and reads."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.sizes import format_size, parse_size
from tests.conformance.data import cases

if TYPE_CHECKING:
    from tests.conformance.data import Case

ALL = cases("sizes")
FORMATTED = [pytest.param(case, id=name) for name, case in ALL if case["kind"] == "format"]
PRECISE = [pytest.param(case, id=name) for name, case in ALL if case["kind"] == "precision"]
PARSED = [pytest.param(case, id=name) for name, case in ALL if case["kind"] == "parse"]


class Departure(enum.StrEnum):
    """Where imagekeep reads a size otherwise than go-units' FromHumanSize."""

    BINARY = "KiB is 1024 bytes"
    OVERFLOW = "a size that 64 bits cannot hold is an error"


def departure(case: Case) -> Departure | None:
    if case.get("overflow") and case["from_human_size"] < 0:
        return Departure.OVERFLOW
    is_size = not isinstance(case["from_human_size"], dict)
    return Departure.BINARY if is_size and case["in"].lower().endswith("ib") else None


def read(text: str) -> int | None:
    try:
        return parse_size(text)
    except InvalidArgumentError:
        return None


@pytest.mark.parametrize("case", FORMATTED)
def test_a_size_is_printed_as_go_units_prints_it(case: Case) -> None:
    assert (format_size(case["value"]), format_size(case["value"], 3)) == (
        case["human_size"],
        case["human_size_3"],
    )


@pytest.mark.parametrize("case", PRECISE)
def test_a_size_has_the_digits_that_go_units_gives_it(case: Case) -> None:
    printed = {digits: format_size(case["value"], int(digits)) for digits in case["digits"]}
    assert printed == case["digits"]


@pytest.mark.parametrize("case", PARSED)
def test_a_size_is_read_as_go_units_reads_it(case: Case) -> None:
    match departure(case):
        case Departure.BINARY:
            expected = case["ram_in_bytes"]
        case Departure.OVERFLOW:
            expected = None
        case _:
            expected = case["from_human_size"]
            expected = None if isinstance(expected, dict) else expected
    assert read(case["in"]) == expected


def test_each_departure_is_met() -> None:
    assert {departure(case.values[0]) for case in PARSED} == {None, *Departure}  # type: ignore[arg-type]
