"""Shows long output on a terminal through a pager, as git does.

The pager is the shell command in $PAGER, else `less`; an empty one or `cat` means none. `less` exits at once if
everything fits on the screen, and keeps colors (LESS=FRX), unless LESS is set.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

NO_PAGER = "imagekeep.no_pager"
"""Key in click's meta, which the contexts of one command share; --no-pager sets it."""

_DEFAULT = "less"

_NONE = ("", "cat")


@contextlib.contextmanager
def paging() -> Iterator[None]:
    """Send standard output to a pager while the block runs, if it is a terminal and a pager is wanted.

    Returns when the reader has left the pager; an interrupt reaches the pager only.
    """
    command = _wanted()
    if command is None:
        yield
        return
    process = _start(command)
    stream = io.TextIOWrapper(process.stdin or io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        with contextlib.suppress(BrokenPipeError):  # the reader has left it before the end
            stream.close()
        _wait(process)


def _wanted() -> str | None:
    """Return the pager's command, or None without a terminal or a pager."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(NO_PAGER):
        return None
    command = os.environ.get("PAGER", _DEFAULT).strip()
    return command if command not in _NONE and _exists(command) else None


def _exists(command: str) -> bool:
    """Return whether a shell finds the command's program, as far as one can tell without a shell."""
    import shlex
    import shutil

    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError):
        return False
    return "=" in program or shutil.which(program) is not None


def _start(command: str) -> subprocess.Popen[bytes]:
    # Imported here because only a terminal needs it.
    import subprocess

    defaults = {"LESS": "FRX", "LV": "-c"}
    return subprocess.Popen(  # noqa: S603 (the user's own command, as in git and man)
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, env={**defaults, **os.environ}
    )


def _wait(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):  # the terminal sends it to the pager too, which goes on
            process.wait()
