"""Times in the API and in the database."""

from __future__ import annotations

import pytest

from imagekeep.times import from_microseconds, to_microseconds


@pytest.mark.parametrize("microseconds", [0, 1, -1, 1_700_000_000_123_456, -(10**15), 2**53 + 1])
def test_a_time_is_kept_to_the_microsecond(microseconds: int) -> None:
    assert to_microseconds(from_microseconds(microseconds)) == microseconds


@pytest.mark.parametrize(("microseconds", "year"), [(2**63 - 1, 9999), (-(2**63), 1)])
def test_a_time_that_no_calendar_has_becomes_the_nearest(microseconds: int, year: int) -> None:
    assert from_microseconds(microseconds).year == year
