"""The server's Unix socket: its address, permissions and exclusive use."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.database.files import user_name
from imagekeep.database.trusted_files import require_trusted_directory
from imagekeep.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
    from_os_error,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH_BYTES_MAX: Final = 107
"""Maximum length of a socket's path (unix(7): sun_path, without its NUL)."""

ANSWER_WAIT: Final = 1.0
"""Timeout in seconds for connecting to an existing socket."""


class Access(NamedTuple):
    """A socket's mode, and its group or None for the server's."""

    mode: int = 0o600
    group: str | None = None


def parse_address(address: str) -> Path:
    """Parse `unix:///PATH`, `unix:/PATH` or an absolute path, like CRI clients.

    Raises InvalidArgumentError. Other schemes are refused because only file permissions control access.
    """
    scheme, colon, rest = address.partition(":")
    path = rest.removeprefix("//") if colon and scheme == "unix" else address
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"invalid address {printable(address)!r}: must be unix:///PATH")
    path = "/" + path.lstrip("/")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise InvalidArgumentError(f"invalid address {printable(address)!r}: must not be a directory")
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise InvalidArgumentError(
            f"invalid address {printable(address)!r}: path must have at most {PATH_BYTES_MAX} bytes"
        )
    return Path(path)


@contextlib.contextmanager
def exclusive_socket(path: Path) -> Iterator[None]:
    """Hold the path exclusively: remove a stale socket before and this server's after.

    Locks `PATH.lock`, which is never removed. Raises FailedPreconditionError if another server uses the path, if
    it is not a socket, or if other users could replace it.
    """
    with _translating(path):
        path.parent.mkdir(mode=0o755, exist_ok=True)
        require_trusted_directory(path, "socket")
        # Without the lock, two servers starting at once could each remove the other's socket.
        lock = _open_lock(path.with_name(f"{path.name}.lock"))
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
    """Make new files private to this user; affects the process, so no other thread may create files."""
    mask = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(mask)


def grant(path: Path, access: Access) -> None:
    """Set a socket's group, then its mode; raises InvalidArgumentError for an unknown group.

    Changes only the file that was checked, even if the path is replaced meanwhile.
    """
    with _translating(path):
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
                raise FailedPreconditionError(f"{printable(path)} was replaced while the server started")
            # fchmod refuses O_PATH descriptors; chmod of their path in /proc works.
            found = f"/proc/self/fd/{descriptor}"
            if access.group is not None:
                os.chown(found, -1, _group_id(access.group))
            os.chmod(found, access.mode)  # noqa: PTH101 - not a Path
        finally:
            os.close(descriptor)


def _group_id(group: str) -> int:
    """Return a group's id from its name or number."""
    if group.isascii() and group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidArgumentError(f"unknown group {printable(group)!r}") from None


def _open_lock(path: Path) -> int:
    """Open or create the lock file; raises FailedPreconditionError, naming the owner, if it is another user's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        lock = os.open(path, flags, 0o600)
    except OSError:
        # The kernel refuses symbolic links, and other users' files in sticky directories (fs.protected_regular).
        with contextlib.suppress(FileNotFoundError):
            _require_own(path, path.lstat())
        raise
    try:
        _require_own(path, os.fstat(lock))
    except BaseException:
        os.close(lock)
        raise
    return lock


def _require_own(path: Path, status: os.stat_result) -> None:
    """Raise FailedPreconditionError unless this is a regular file of this user."""
    if status.st_uid != os.geteuid():
        owner = printable(user_name(status.st_uid))
        raise FailedPreconditionError(
            f"{printable(path)} belongs to user {owner}, who could block the server (remove it)"
        )
    if not stat.S_ISREG(status.st_mode):
        raise FailedPreconditionError(f"{printable(path)} is not a regular file (remove it)")


def _remove_stale(path: Path) -> None:
    """Remove a socket without a server; raises FailedPreconditionError for any other file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPreconditionError(
            f"{printable(path)} is not a socket (choose another path, or remove it)"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WAIT)
        try:
            with contextlib.suppress(TimeoutError):  # a full backlog means a busy server
                probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise _taken(path)


def _taken(path: Path) -> FailedPreconditionError:
    return FailedPreconditionError(f"{printable(path)} is in use by another server")


@contextlib.contextmanager
def _translating(path: Path) -> Iterator[None]:
    """Translate OSError into an error that names the socket."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, f"cannot serve at {printable(path)}", UnavailableError) from error
