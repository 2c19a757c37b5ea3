"""The two streams: answers go to standard output, everything else to standard error.

Both carry names that come from image sources. What is not JSON or YAML passes through `escape`, so that
nothing reaches a terminal that it would interpret, or that a person would misread.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from imagekeep.escaping import SLICE, escape, slices
from imagekeep.systemd import is_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO


ERROR, WARNING = 3, 4
"""Priorities of syslog(3)."""


class OutputError(Exception):
    """Raised when standard output takes no more; `closed` where its reader has gone, which is no failure."""

    def __init__(self, reason: str, *, closed: bool = False) -> None:
        super().__init__(f"cannot write to standard output: {reason}")
        self.closed = closed


def write(text: str) -> None:
    """Write text to standard output as it is; raises OutputError."""
    with _translating():
        _standard_output().write(text)


def write_all(pieces: Iterable[str]) -> None:
    """Write pieces of text to standard output as they are, many in one call; raises OutputError."""
    for chunk in chunks(pieces):
        write(chunk)


def chunks(pieces: Iterable[str]) -> Iterator[str]:
    """Yield pieces of text joined to chunks of about SLICE characters, each worth a call of its own."""
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
    """Write one line to standard output, what is not printable in it escaped; raises OutputError."""
    for part in slices(text):
        write(escape(part))
    write("\n")


def flush() -> None:
    """Hand on what was written; raises OutputError."""
    if sys.stdout is not None:
        with _translating():
            sys.stdout.flush()


def complain(message: str) -> None:
    """Write `Error: MESSAGE` to standard error, escaped for a terminal."""
    warn(f"Error: {message}", priority=ERROR)


def warn(message: str, *, priority: int = WARNING) -> None:
    """Write lines to standard error, escaped for a terminal; if that is closed, write nothing.

    The journal gets the priority before each line (sd-daemon(3)).
    """
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError):
        before = f"<{priority}>" if is_journal(sys.stderr) else ""
        sys.stderr.write("".join(f"{before}{escape(line)}\n" for line in message.split("\n")))
        sys.stderr.flush()


def make_lenient() -> None:
    """Let characters that a stream's encoding lacks be written as escapes, and not raise."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def discard() -> None:
    """Let what is still unwritten vanish: the interpreter would try once more, and complain, when it ends."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _standard_output() -> TextIO:
    """Return standard output, or raise OutputError where the command was started without one."""
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
