"""What `imagekeep query` is given: a statement from an argument, a file or standard input, and its parameters."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from typing import NoReturn

LONGEST = 1 << 20
"""Maximum bytes of a statement in a file."""

_PARAMETER = re.compile(r"[:@$]?(\w+)(:?=)(.*)", re.DOTALL)

_INTEGERS = range(-(2**63), 2**63)


def read_statement(sql: str | None, path: str | None) -> str:
    """Return the statement: an argument, a file, or standard input for `-` or if neither is given.

    Raises UsageError for both, or for neither on a terminal, InvalidArgumentError if it is not text, and OSError.
    """
    if sql is not None and path is not None:
        raise click.UsageError("give either SQL or --file")
    if sql not in (None, "-"):
        return sql or ""
    if sql is None and path is None and _is_terminal():
        raise click.UsageError("no query (give SQL, or --file)")
    source = path or "-"
    return _decode(_read(source), source)


def parse_parameter(given: str) -> tuple[str, str | float | None]:
    """Return the name and value of `name=text` or `name:=number`; raises BadParameter."""
    matched = _PARAMETER.fullmatch(given)
    if matched is None:
        raise click.BadParameter(f"{printable(given)!r} is not NAME=VALUE")
    name, sign, text = matched.groups()
    return name, text if sign == "=" else _parse_number(text)


def _parse_number(text: str) -> float | None:
    if text == "null":
        return None
    try:
        number = json.loads(text, parse_constant=_refuse)
    except ValueError:
        number = None
    # True and False are integers in Python, but not numbers to a user.
    if type(number) is float or (type(number) is int and number in _INTEGERS):
        return number
    raise click.BadParameter(f"{printable(text)!r} is not a number of 64 bits (a text is NAME=VALUE)")


def _refuse(_: str) -> NoReturn:
    raise ValueError  # NaN and Infinity, which are not JSON


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def _read(path: str) -> bytes:
    """Return at most one byte more than LONGEST."""
    if path != "-":
        with Path(path).open("rb") as file:
            return file.read(LONGEST + 1)
    if sys.stdin is None:
        raise InvalidArgumentError("query: standard input is closed")
    return sys.stdin.buffer.read(LONGEST + 1)


def _decode(statement: bytes, path: str) -> str:
    name = "standard input" if path == "-" else printable(path)
    if len(statement) > LONGEST:
        raise InvalidArgumentError(f"query: {name} is longer than {LONGEST >> 10} KiB")
    try:
        return statement.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"query: {name} is not UTF-8 text") from None
