"""Points in time and durations as people write them.

::

    moment   := date [("T" | " ") clock] [zone]      2026-11-20, 2026-11-20 03:00, 2026-11-20T03:00:05.5+02:00
              | ("now" | "today" | "yesterday") [clock]
              | duration ["ago"]                     10m, 1h30m, 3 days ago; before now
              | seconds ["." fraction]               since 1970
    clock    := hour [":" minute [":" second ["." fraction]]]
    zone     := "Z" | ("+" | "-") hour ":" minute
    duration := ["+" | "-"] (number unit)+           units from ns to weeks, abbreviated or in words

A local time follows its zone's rules on its own date; docker takes the offset that is in force now. A time that the
clocks skip counts on from before the change, and of one that they repeat the first is meant. Moments are integers,
nanoseconds since 1970 UTC: containerd and configs keep that many digits.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from datetime import tzinfo

SECOND: Final = 1_000_000_000
"""Nanoseconds in a second."""

_INT64_MAX: Final = 2**63 - 1
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999; no time that a store or a config can hold is later."""

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60 * SECOND),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600 * SECOND),
    **dict.fromkeys(("d", "day", "days"), 86_400 * SECOND),
    **dict.fromkeys(("w", "week", "weeks"), 604_800 * SECOND),
}
_PART: Final = r"(?P<whole>\d*)(?:\.(?P<fraction>\d*))?\ ?(?P<unit>[a-zµμ]+)"
_CLOCK: Final = r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
_PARTS: Final = re.compile(_PART, re.ASCII)
_DATE: Final = re.compile(
    rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)(?:[T ]{_CLOCK})?"
    r"(?P<zone>Z|(?P<sign>[+-])(?P<zone_hour>\d\d):(?P<zone_minute>[0-5]\d))?",
    re.ASCII,
)
_WORD: Final = re.compile(rf"(?P<word>now|today|yesterday)(?:\ {_CLOCK})?", re.ASCII)
_DAYS: Final = ("today", "yesterday")
_UNIX: Final = re.compile(r"\+?(?P<seconds>\d{1,20})(?:\.(?P<fraction>\d{0,20}))?", re.ASCII)


def parse_moment(text: str, now: int, zone: tzinfo | None = None) -> int:
    """Return a moment in nanoseconds since 1970, UTC; `zone` is that of local times, by default the process's.

    Raises InvalidArgumentError.
    """
    if match := _DATE.fullmatch(text):
        return _dated(text, match, zone)
    if match := _WORD.fullmatch(text):
        return _worded(text, match, now, zone)
    if (match := _UNIX.fullmatch(text)) and int(match["seconds"]) <= _LAST_SECOND:
        return int(match["seconds"]) * SECOND + _fraction(match["fraction"])
    try:
        return now - parse_duration(text.removesuffix(" ago"))
    except InvalidArgumentError:
        raise _invalid(text) from None


def parse_period(text: str, now: int, zone: tzinfo | None = None) -> tuple[int, int]:
    """Return the start and end of what a time stands for: a date or `today` for a day, `3h ago` for the time since.

    Any other time stands for its second, or with a fraction for itself. Raises as `parse_moment` does.
    """
    if text in _DAYS:
        return parse_period(str(_day_of(text, now, zone).date()), now, zone)
    start = parse_moment(text, now, zone)
    if (match := _DATE.fullmatch(text)) and not match["hour"]:
        year, month, day = (int(match[name]) for name in ("year", "month", "day"))
        following = date(year, month, day) + timedelta(days=1)
        return start, parse_moment(f"{following}{match['zone'] or ''}", now, zone)
    if match or _WORD.fullmatch(text) or _UNIX.fullmatch(text):
        return start, start + (1 if start % SECOND else SECOND)
    return min(start, now), max(start, now)


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds: Go's form (`1h30m`), also with spaces, days, weeks and words.

    Raises InvalidArgumentError.
    """
    unsigned = text[1:] if text.startswith(("+", "-")) else text
    total, position = 0, len("0") if unsigned == "0" else 0
    while position < len(unsigned):
        match = _PARTS.match(unsigned, position)
        if match is None or match["unit"] not in _UNITS or not (match["whole"] or match["fraction"]):
            raise _invalid_duration(text)
        total += _amount(match, _UNITS[match["unit"]])
        position = match.end()
        if unsigned.startswith(" ", position) and position + 1 < len(unsigned):
            position += 1
    if not unsigned or total > _INT64_MAX:
        raise _invalid_duration(text)
    return -total if text.startswith("-") else total


def _amount(match: re.Match[str], unit: int) -> int:
    fraction = match["fraction"] or ""
    parts: int = 10 ** len(fraction)
    return int(match["whole"] or 0) * unit + int(fraction or 0) * unit // parts


def _dated(text: str, match: re.Match[str], zone: tzinfo | None) -> int:
    try:
        day = datetime(int(match["year"]), int(match["month"]), int(match["day"]))  # local to a zone below
        seconds = _seconds_since_1970(_at(day, match), UTC if match["zone"] else zone)
    except (ValueError, OverflowError):
        raise _invalid(text) from None
    return (seconds - _offset(text, match)) * SECOND + _fraction(match["fraction"])


def _worded(text: str, match: re.Match[str], now: int, zone: tzinfo | None) -> int:
    if match["word"] == "now":
        if match["hour"]:
            raise _invalid(text)
        return now
    day = _day_of(match["word"], now, zone)
    try:
        return _seconds_since_1970(_at(day, match), zone) * SECOND + _fraction(match["fraction"])
    except (ValueError, OverflowError):
        raise _invalid(text) from None


def _day_of(word: str, now: int, zone: tzinfo | None) -> datetime:
    """Return the midnight at which today or yesterday begins on the zone's clock."""
    local = datetime.fromtimestamp(now // SECOND, UTC).astimezone(zone).replace(tzinfo=None)
    return local.replace(hour=0, minute=0, second=0) - timedelta(days=word == "yesterday")


def _at(day: datetime, match: re.Match[str]) -> datetime:
    """Return a day at the clock that was matched, at midnight if none was; raises ValueError."""
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    return day.replace(hour=hour, minute=minute, second=second)


def _offset(text: str, match: re.Match[str]) -> int:
    """Return the offset that a date names in seconds; Go accepts 24 hours, which Python's zones refuse."""
    if not match["sign"]:
        return 0
    if int(match["zone_hour"]) > 24:
        raise _invalid(text)
    offset = int(match["zone_hour"]) * 3600 + int(match["zone_minute"]) * 60
    return -offset if match["sign"] == "-" else offset


def _seconds_since_1970(naive: datetime, zone: tzinfo | None) -> int:
    """Return what a zone's clock shows as seconds since 1970; raises ValueError and OverflowError."""
    return int((naive if zone is None else naive.replace(tzinfo=zone)).timestamp())


def _fraction(digits: str | None) -> int:
    """Return the nanoseconds of a fraction of a second; more digits are dropped."""
    return int((digits or "")[:9].ljust(9, "0"))


def _invalid(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"invalid time {printable(text)!r}: write it as '2026-11-20 03:00', '3h ago', 'yesterday 03:00' or RFC 3339"
    )


def _invalid_duration(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"invalid duration {printable(text)!r}: write it as 168h, 1h30m, 7d or '2 weeks'"
    )
