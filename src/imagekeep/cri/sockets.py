"""The unix socket that is served: its address, who may use it, and that one server has it."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnavailableError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH_BYTES_MAX: Final = 107
"""The longest path of a unix socket (unix(7): sun_path, without its closing NUL)."""

ANSWER_WAIT: Final = 1.0
"""Seconds to connect to a socket that is there."""


class Access(NamedTuple):
    """Who may use a socket: its mode, and its group where that is not the server's."""

    mode: int = 0o600
    group: str | None = None


def parse_address(address: str) -> Path:
    """Return the absolute path in `unix:///PATH`, `unix:/PATH` or a bare absolute path, as CRI clients take it.

    Raises InvalidArgumentError; for other schemes too, because only a file's mode says here who may ask.
    """
    scheme, colon, rest = address.partition(":")
    path = rest.removeprefix("//") if colon and scheme == "unix" else address
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"{printable(address)} is no address to serve at; give unix:///PATH")
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise InvalidArgumentError(
            f"{printable(address)}: a socket's path has at most {PATH_BYTES_MAX} bytes"
        )
    return Path(path)


@contextlib.contextmanager
def exclusive_socket(path: Path) -> Iterator[None]:
    """Hold the path for this process: a socket there that nobody answers on goes before, and ours after.

    A file beside it, `PATH.lock`, is locked meanwhile and stays. Raises FailedPreconditionError where another
    server has the path, or where something other than a socket is there.
    """
    with _translating(path):
        path.parent.mkdir(mode=0o755, exist_ok=True)
        # The lock keeps two that start at the same moment from each removing the other's socket.
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(path) from None
        with _translating(path):
            _remove_stale(path)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(lock)


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Let what is made inside be only this user's; for a moment when no other thread makes files."""
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)


def grant(path: Path, access: Access) -> None:
    """Give a socket its group and then its mode; raises InvalidArgumentError for an unknown group."""
    with _translating(path):
        if access.group is not None:
            os.chown(path, -1, _group_id(access.group))
        path.chmod(access.mode)


def _group_id(group: str) -> int:
    """Return the id of a group that is given by its name or as a number."""
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidArgumentError(f"no group is named {printable(group)}") from None


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody answers; raises FailedPreconditionError for anything else there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPreconditionError(f"{printable(path)} is no socket, and is not replaced")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WAIT)
        try:
            with contextlib.suppress(TimeoutError):  # a full backlog is somebody too
                probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise _taken(path)


def _taken(path: Path) -> FailedPreconditionError:
    return FailedPreconditionError(f"another server answers at {printable(path)}")


@contextlib.contextmanager
def _translating(path: Path) -> Iterator[None]:
    """Raise what the system raises as an error of ours that names the socket."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDeniedError(f"cannot serve at {printable(path)}: {error.strerror}") from error
    except OSError as error:
        raise UnavailableError(f"cannot serve at {printable(path)}: {error.strerror}") from error
