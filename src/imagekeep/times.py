"""Times: aware datetimes in the API, microseconds since 1970 (UTC) in the database."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def timestamp() -> int:
    """Return the current time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def current_time() -> datetime:
    """Return the current time, as the database can keep it."""
    return from_microseconds(timestamp())


def from_microseconds(value: int) -> datetime:
    """Return the time that is so many microseconds after 1970, UTC.

    A number outside the years 1 to 9999 becomes the nearest time in them: a damaged file can hold any.
    """
    return _EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


def to_microseconds(value: datetime) -> int:
    """Return an aware time in microseconds since 1970, UTC."""
    return (value - _EPOCH) // _MICROSECOND
