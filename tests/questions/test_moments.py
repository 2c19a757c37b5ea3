"""Times as people write them, in the zone of the process and in others."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.moments import SECOND, parse_duration, parse_moment, parse_period

if TYPE_CHECKING:
    from collections.abc import Iterator

BERLIN = ZoneInfo("Europe/Berlin")
NOW = int(datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC).timestamp()) * SECOND + 123_456_789


def read(text: str, now: int = NOW) -> str:
    moment = parse_moment(text, now, BERLIN)
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20 03:00", "2026-11-20 02:00:00"),
        ("2026-07-20 03:00", "2026-07-20 01:00:00"),
        ("2026-07-20", "2026-07-19 22:00:00"),
        ("2026-11-20 3:00:05", "2026-11-20 02:00:05"),
        ("2026-11-20 03:00Z", "2026-11-20 03:00:00"),
        ("2026-11-20 03:00+02:00", "2026-11-20 01:00:00"),
        ("3h ago", "2026-11-26 09:00:00"),
        ("2 days ago", "2026-11-24 12:00:00"),
        ("1 week ago", "2026-11-19 12:00:00"),
        ("1 hour 30 minutes ago", "2026-11-26 10:30:00"),
        ("now", "2026-11-26 12:00:00"),
        ("today", "2026-11-25 23:00:00"),
        ("today 03:00", "2026-11-26 02:00:00"),
        ("yesterday", "2026-11-24 23:00:00"),
        ("yesterday 03:00", "2026-11-25 02:00:00"),
        ("yesterday 03:00:07", "2026-11-25 02:00:07"),
    ],
)
def test_a_time_is_read_as_people_mean_it(text: str, expected: str) -> None:
    assert read(text) == expected


def test_yesterday_is_a_day_of_the_calendar_even_if_it_had_23_hours() -> None:
    after_the_change = int(datetime(2026, 3, 30, 12, 0, tzinfo=UTC).timestamp()) * SECOND
    assert read("yesterday 01:00", after_the_change) == "2026-03-29 00:00:00"
    assert read("yesterday 03:00", after_the_change) == "2026-03-29 01:00:00"


@pytest.mark.parametrize(("word", "first", "following"), [("today", 26, 27), ("yesterday", 25, 26)])
def test_a_word_for_a_day_stands_for_the_whole_day(word: str, first: int, following: int) -> None:
    expected = tuple(parse_moment(f"2026-11-{day}", NOW, BERLIN) for day in (first, following))
    assert parse_period(word, NOW, BERLIN) == expected
    start = parse_moment(f"{word} 03:00", NOW, BERLIN)
    assert parse_period(f"{word} 03:00", NOW, BERLIN) == (start, start + SECOND)


def test_a_skipped_time_counts_on_and_a_repeated_one_is_the_first() -> None:
    assert read("2026-03-29 02:30") == "2026-03-29 01:30:00"
    assert read("2026-10-25 02:30") == "2026-10-25 00:30:00"


@pytest.mark.parametrize(
    "text",
    ["", " ", "ago", "3h ago ago", "yesterday 24:00", "now 03:00", "tomorrow", "2026-11-20 03:60", "0000-01-01",
     "2026-11-20 03:00+25:00", "2026-02-30", "3 fortnights ago", "٣h", "99999999999999999999"],
)  # fmt: skip
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid time"):
        parse_moment(text, NOW, BERLIN)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    "text", ["2026-07-20 03:00", "2026-01-15", "yesterday 03:00", "2026-03-29 02:30", "2026-10-25 02:30"]
)
def test_the_zone_of_the_process_is_the_default(text: str) -> None:
    assert parse_moment(text, NOW) == parse_moment(text, NOW, BERLIN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("168h", 604_800), ("7d", 604_800), ("1w", 604_800), ("1h30m", 5400), ("90s", 90), ("0", 0), ("1.5h", 5400),
     ("2 weeks", 1_209_600), ("-10m", -600)],
)  # fmt: skip
def test_a_duration_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "-", "h", "5", "1d2", "1 fortnight", "1e3s", "300000d"])
def test_what_is_not_a_duration_is_an_error(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid duration"):
        parse_duration(text)
