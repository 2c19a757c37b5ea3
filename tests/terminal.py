"""Runs a program on a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import termios
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Shown(NamedTuple):
    """What a terminal received, with plain newlines, and the exit code."""

    text: str
    code: int


def on_terminal(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Shown:
    """Run a program with a terminal for its three streams until it exits."""
    terminal, its_end = os.openpty()
    termios.tcsetwinsize(its_end, (24, 80))
    with subprocess.Popen(
        command,
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=environment,
        cwd=directory,
        start_new_session=True,
    ) as process:
        os.close(its_end)
        received = bytearray()
        while part := _read(terminal):
            received += part
        os.close(terminal)
    return Shown(received.decode().replace("\r\n", "\n"), process.returncode)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: no process has the other end open
        return b""
