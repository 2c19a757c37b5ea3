"""Times as Go reads and writes them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.oci.timestamp import reformat


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"),
        ("2024-02-29T3:59:59Z", "2024-02-29T03:59:59Z"),
        ("2024-02-29T23:59:59,5Z", "2024-02-29T23:59:59.5Z"),
        ("2024-02-29T23:59:59.120Z", "2024-02-29T23:59:59.12Z"),
        ("2024-02-29T23:59:59.000Z", "2024-02-29T23:59:59Z"),
        ("2024-02-29T23:59:59.1234567899Z", "2024-02-29T23:59:59.123456789Z"),
        ("2024-02-29T23:59:59.0000000001Z", "2024-02-29T23:59:59Z"),
        ("2024-02-29T23:59:59+05:30", "2024-02-29T23:59:59+05:30"),
        ("2024-02-29T23:59:59+00:00", "2024-02-29T23:59:59Z"),
        ("2024-02-29T23:59:59-00:00", "2024-02-29T23:59:59Z"),
        ("2024-02-29T23:59:59-05:60", "2024-02-29T23:59:59-06:00"),
        ("2024-02-29T23:59:59+24:00", "2024-02-29T23:59:59+24:00"),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_written_as_go_writes_it(written: str, expected: str) -> None:
    assert reformat(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2024-04-31T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2016-12-31T23:59:60Z",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01t00:00:00z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00+25:00",
        "2024-01-01T00:00:00+00:61",
        "2024-01-01T00:00:00+0000",
        "2024-01-01T00:0:00Z",
        "2024-1-01T00:00:00Z",
        "12024-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z\n",
        "2024-01-01T00:00:00Z ",
        "\u0662\u0660\u0662\u0664-01-01T00:00:00Z",
    ],
)
def test_what_go_cannot_read_is_rejected(written: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|a day that"):
        reformat(written)


@given(st.datetimes())
def test_a_time_that_go_wrote_stays_as_it_is(moment: datetime.datetime) -> None:
    written = moment.isoformat().rstrip("0") if moment.microsecond else moment.isoformat()
    assert reformat(f"{written}Z") == f"{written}Z"


@given(st.datetimes(), st.integers(-(23 * 60 + 59), 23 * 60 + 59))
def test_writing_keeps_the_moment(moment: datetime.datetime, offset: int) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=offset))
    written = moment.replace(tzinfo=zone).isoformat()
    assert datetime.datetime.fromisoformat(reformat(written)) == moment.replace(tzinfo=zone)
