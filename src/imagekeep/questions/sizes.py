"""Sizes as people write and read them, after docker/go-units."""

from __future__ import annotations

import math
import re
from typing import Final

from imagekeep.errors import InvalidArgumentError, printable

SIZE_MAX: Final = 2**63 - 1
"""The largest size that SQLite can hold."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_PREFIXES: Final = "kmgtp"
_NUMBER: Final = r"[+-]?(?:\d+(?:_\d+)*\.?(?:\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:e[+-]?\d+)?"
_HEX: Final = r"[+-]?0x_?(?:[\da-f]+\.?[\da-f]*|\.[\da-f]+)p[+-]?\d+"
_SIZE: Final = re.compile(
    rf"(?P<number>(?P<hex>{_HEX})|{_NUMBER})\ ?"
    rf"(?P<prefix>[{_PREFIXES}])?(?P<binary>(?<=[{_PREFIXES}])i(?=b))?b?",
    re.ASCII | re.IGNORECASE,
)


def format_size(size: int, digits: int = 4, separator: str = "") -> str:
    """Return a size in powers of 1000 (go-units: HumanSizeWithPrecision); docker and crictl list 3 digits."""
    scaled = float(size)
    for unit in _UNITS[:-1]:
        if scaled < 1000:
            return f"{scaled:.{digits}g}{separator}{unit}"
        scaled /= 1000
    return f"{scaled:.{digits}g}{separator}{_UNITS[-1]}"


def parse_size(text: str) -> int:
    """Return a size in bytes: `10MB`, `1.5 GiB`, `512k`, `2000` (go-units: FromHumanSize).

    `kB` and `k` are 1000 bytes, `KiB` 1024 (go-units reads 1000). A fraction of a byte is dropped. Raises
    InvalidArgumentError.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _invalid(text, "write a number and a unit, such as 10MB, 1.5GiB or 2000")
    size = _number(match) * _factor(match["prefix"], binary=match["binary"] is not None)
    if size < 0:
        raise _invalid(text, "it is negative")
    if size > SIZE_MAX:
        raise _invalid(text, "too large")
    return int(size)


def _number(match: re.Match[str]) -> float:
    """Return the number before the unit, infinity if it is too large for a float."""
    try:
        return float.fromhex(match["hex"]) if match["hex"] else float(match["number"])
    except OverflowError:  # only fromhex raises it
        return math.inf


def _factor(prefix: str | None, *, binary: bool) -> float:
    power = _PREFIXES.index(prefix.lower()) + 1 if prefix else 0
    return float((1024 if binary else 1000) ** power)


def _invalid(text: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid size {printable(text)!r}: {why}")
