"""Options that take a time or a duration, as people write them."""

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
