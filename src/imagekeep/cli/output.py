"""The two streams: answers go to standard output, everything else to standard error.

Both carry names from image sources. Everything but JSON and YAML passes through `escape`, so that no text can
control the terminal or mislead a reader.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from imagekeep.escaping import SLICE, escape, slices
from imagekeep.systemd import is_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from click._termui_impl import ProgressBar

ERROR, WARNING = 3, 4
"""Priorities of syslog(3)."""

_ERROR = "Error: "
_RED, _NORMAL = "\x1b[31m", "\x1b[0m"

SHOW_AFTER = 1.0
"""Seconds after which a progress bar appears."""


class OutputError(Exception):
    """Raised when writing to standard output fails; `closed` is set if its reader has exited."""

    def __init__(self, reason: str, *, closed: bool = False) -> None:
        super().__init__(f"cannot write to standard output: {reason}")
        self.closed = closed


def write(text: str) -> None:
    """Write text to standard output unescaped; raises OutputError."""
    with _translating():
        _standard_output().write(text)


def write_all(pieces: Iterable[str]) -> None:
    """Write pieces of text to standard output unescaped, in chunks; raises OutputError."""
    for chunk in chunks(pieces):
        write(chunk)


def chunks(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of text joined into chunks of about SLICE characters."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= SLICE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def write_line(text: str) -> None:
    """Write one escaped line to standard output; raises OutputError."""
    for part in slices(text):
        write(escape(part))
    write("\n")


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def wants_color(stream: TextIO | None = None) -> bool:
    """Return whether a stream, by default standard output, is a terminal that shows colors.

    NO_COLOR, if not empty, means none (no-color.org).
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()


def flush() -> None:
    """Flush standard output; raises OutputError."""
    if sys.stdout is not None:
        with _translating():
            sys.stdout.flush()


def print_error(message: str) -> None:
    """Write `Error: MESSAGE` to standard error, escaped."""
    print_message(f"{_ERROR}{message}", priority=ERROR)


def print_message(message: str, *, priority: int = WARNING) -> None:
    """Write escaped lines to standard error; do nothing if it is closed.

    The journal gets the priority before each line (sd-daemon(3)).
    """
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        before = f"<{priority}>" if is_journal(sys.stderr) else ""
        lines = map(escape, message.split("\n"))
        if wants_color(sys.stderr):
            lines = map(_emphasised, lines)
        sys.stderr.write("".join(f"{before}{line}\n" for line in lines))
        sys.stderr.flush()


def _emphasised(line: str) -> str:
    """Return a line with `Error:` in red if it begins so."""
    return f"{_RED}{_ERROR}{_NORMAL}{line[len(_ERROR) :]}" if line.startswith(_ERROR) else line


def escape_unencodable() -> None:
    """Write characters that a stream's encoding lacks as escapes instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def discard() -> None:
    """Discard unwritten output; the interpreter would try to write it again at exit and report an error."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function of (done, total) that draws a progress bar on standard error, or None without a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    began = time.monotonic()
    bar: ProgressBar[int] | None = None

    with contextlib.ExitStack() as stack:

        def show(done: int, total: int) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - began >= SHOW_AFTER:
                bar = stack.enter_context(click.progressbar(length=total, label=label, file=sys.stderr))
            if bar is not None:
                bar.update(done - bar.pos)

        yield show


def _standard_output() -> TextIO:
    if sys.stdout is None:
        raise OutputError("it is closed")
    return sys.stdout


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputError(error.strerror or "closed", closed=True) from error
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error
