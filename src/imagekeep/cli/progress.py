"""A progress bar for people who wait."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click._termui_impl import ProgressBar

SHOW_AFTER = 1.0
"""Seconds after which a bar appears."""


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that takes how much is done, of how much, and draws a bar on standard error.

    Where that is no terminal there is nothing to draw on, and None is given.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    began = time.monotonic()
    bar: ProgressBar[int] | None = None

    with contextlib.ExitStack() as stack:

        def show(done: int, total: int) -> None:
            """Draw how much is done, once it has taken long enough for somebody to wonder."""
            nonlocal bar
            if bar is None and time.monotonic() - began >= SHOW_AFTER:
                bar = stack.enter_context(click.progressbar(length=total, label=label, file=sys.stderr))
            if bar is not None:
                bar.update(done - bar.pos)

        yield show
