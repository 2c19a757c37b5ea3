"""Talks to systemd: service notifications (sd_notify(3)) and journal detection."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def notify(state: str) -> bool:
    """Send a state such as `READY=1` or `STOPPING=1`; return whether it was sent.

    Ignores failures: a service manager that is not notified times out by itself.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket: its name begins with a NUL
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def is_journal(stream: TextIO | None) -> bool:
    """Return whether a stream is connected to the journal (systemd.exec(5): JOURNAL_STREAM).

    Compares the stream itself, because redirected streams and child processes inherit the variable.
    """
    named = os.environ.get("JOURNAL_STREAM")
    if not named or stream is None:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return named == f"{found.st_dev}:{found.st_ino}"
