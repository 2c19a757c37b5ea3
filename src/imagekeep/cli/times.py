"""Options that take a time, a duration or a size, as people write them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.cli.command import Decorated


def moment_option(flag: str, help_text: str) -> Callable[[Decorated], Decorated]:
    """Return an option whose value is a time in microseconds since 1970, or None."""
    return click.option(flag, metavar="TIME", callback=_parse_moment, help=help_text)


def _parse_moment(context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or context.resilient_parsing:
        return None
    # Imported here because few commands are asked about a time.
    from imagekeep.questions.moments import parse_moment

    return parse_moment(text, time.time_ns()) // 1000


def duration_option(flag: str, help_text: str) -> Callable[[Decorated], Decorated]:
    """Return an option whose value is a duration in nanoseconds, or None."""
    return click.option(flag, metavar="DURATION", callback=_parse_duration, help=help_text)


def _parse_duration(context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or context.resilient_parsing:
        return None
    from imagekeep.questions.moments import parse_duration

    return parse_duration(text)


def size_option(flag: str, help_text: str) -> Callable[[Decorated], Decorated]:
    """Return an option whose value is a size in bytes, or None."""
    return click.option(flag, metavar="SIZE", callback=_parse_size, help=help_text)


def _parse_size(context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    if text is None or context.resilient_parsing:
        return None
    from imagekeep.questions.sizes import parse_size

    return parse_size(text)


def parse_age(context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    """Return the value of an option that takes a duration, in microseconds; raises InvalidArgumentError."""
    if text is None or context.resilient_parsing:
        return None
    from imagekeep.questions.moments import parse_duration

    return parse_duration(text) // 1000
