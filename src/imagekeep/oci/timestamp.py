"""Times as Go reads them from JSON and writes them back (package time: RFC3339 and RFC3339Nano)."""

from __future__ import annotations

import functools
import re
from calendar import monthrange
from typing import Final

_RFC3339: Final = re.compile(
    r"""
    ((?P<year> [0-9]{4}) - (?P<month> 0[1-9] | 1[0-2]) - (?P<day> 0[1-9] | [12][0-9] | 3[01]))
    T ([01][0-9] | 2[0-3] | [0-9]) ( : [0-5][0-9] : [0-5][0-9])
    (?: [.,] ([0-9]+) )?
    (?: Z | ([+-]) ([01][0-9] | 2[0-4]) : ([0-5][0-9] | 60) )
    """,
    re.VERBOSE,
)

_NANOSECOND_DIGITS: Final = 9
_DAYS_IN_EVERY_MONTH: Final = "28"


@functools.lru_cache(maxsize=1024)  # the steps of a build, and the images upon one base, share their times
def reformat(written: str) -> str:
    """Return a time as Go writes it after reading it; raises ValueError if Go cannot read it.

    Reading is looser than RFC 3339: the hour may have one digit, the fraction may follow a comma and be of
    any length, the offset goes up to 24:60. It is stricter in that T and Z are capitals and no second is
    the 60th. Writing gives an hour of two digits, at most nine digits of fraction without trailing zeros,
    and Z for an offset of zero. Go's encoder refuses an offset of 24 hours or more; here it is written like
    any other.
    """
    match = _RFC3339.fullmatch(written)
    if match is None:
        raise ValueError("not a time as RFC 3339 writes it")
    date, year, month, day, hour, clock, fraction, sign, zone_hours, zone_minutes = match.groups()
    if day > _DAYS_IN_EVERY_MONTH and int(day) > _days_in(int(year), int(month)):
        raise ValueError("a day that its month does not have")
    if fraction and (fraction := fraction[:_NANOSECOND_DIGITS].rstrip("0")):
        clock = f"{clock}.{fraction}"
    return f"{date}T{hour:0>2}{clock}{_zone(sign, zone_hours, zone_minutes) if sign else 'Z'}"


def _days_in(year: int, month: int) -> int:
    """Return how many days a month has, in the Gregorian calendar extended back to the year 0."""
    # monthrange knows no year 0, which is a leap year like 2000.
    return monthrange(year or 2000, month)[1]


def _zone(sign: str, hours: str, minutes: str) -> str:
    """Return the offset as Go writes it: sixty minutes are an hour, and none is Z."""
    offset = int(hours) * 60 + int(minutes)
    return f"{sign}{offset // 60:02}:{offset % 60:02}" if offset else "Z"
