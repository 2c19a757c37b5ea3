"""Private directories: where a file is written before it gets its name.

Nobody but its owner may enter one, and every step on what it holds goes through its descriptor, so that it does not
matter what becomes of its name. Only SQLite takes names: for SQLite, a path must be one that no other user can
redirect.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import PermissionDeniedError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = ".imagekeep-copy-"
_NAME = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{16}}")

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_LONGEST_PATH = 480
"""Bytes of a directory's path that leave room for a file's name; SQLite opens no path of more than 512."""


class PrivateDirectory(NamedTuple):
    """A directory that only this user may enter: its descriptor, and the path it was made at."""

    descriptor: int
    path: Path


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """Yield a descriptor of a directory; raises as `os.open` does."""
    descriptor = os.open(path, _OPEN_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def private_directory(parent: int, path: Path) -> Iterator[PrivateDirectory]:
    """Yield a new directory below `path`, which `parent` is a descriptor of; remove it with what it holds.

    Directories that killed processes left there are removed too. Raises PermissionDeniedError if the directory
    does not belong to this user, and as `os.mkdir` does.
    """
    remove_abandoned(parent)
    name, descriptor = _create(parent, path)
    try:
        yield PrivateDirectory(descriptor, path / name)
    finally:
        with contextlib.suppress(OSError):  # another user may have moved it away; it holds nothing any more
            _remove(parent, name, descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def directory_for_sqlite(private: PrivateDirectory) -> Iterator[PrivateDirectory]:
    """Yield `private`, or one like it among the temporary files if SQLite cannot safely use its path."""
    if len(os.fsencode(private.path)) <= _LONGEST_PATH and _is_safe(private):
        yield private
        return
    temporary = Path(os.path.realpath(tempfile.gettempdir()))
    with open_directory(temporary) as parent:
        found = os.fstat(parent)
        if not _is_guarded(found):
            raise PermissionDeniedError(
                f"temporary directory {printable(temporary)}: other users may rename files in it "
                f"(mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}); set TMPDIR to one of your own"
            )
        with private_directory(parent, temporary) as other:
            yield other


def remove_abandoned(parent: int) -> None:
    """Remove this user's private directories that no process has locked from an open directory."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(parent, entry.name)


def _create(parent: int, path: Path) -> tuple[str, int]:
    """Make a directory and lock it, so that nobody takes it for an abandoned one."""
    while True:
        name = _PREFIX + os.urandom(8).hex()
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            _lock(descriptor)
            found = os.fstat(descriptor)
        except BlockingIOError:  # it was taken for abandoned before it was locked
            os.close(descriptor)
            continue
        if found.st_uid != os.geteuid():
            os.close(descriptor)
            raise PermissionDeniedError(
                f"{printable(path)}: new directories there belong to user {found.st_uid} and not to this one; "
                "choose another directory"
            )
        if found.st_nlink:
            return name, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a directory until its descriptor is closed; raise BlockingIOError if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF):
            raise


def _remove_if_abandoned(parent: int, name: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(parent, name, descriptor)
        finally:
            os.close(descriptor)


def _remove(parent: int, name: str, descriptor: int) -> None:
    for entry in os.listdir(descriptor):
        os.unlink(entry, dir_fd=descriptor)
    os.rmdir(name, dir_fd=parent)


def _is_safe(private: PrivateDirectory) -> bool:
    """Return whether the path leads to the directory, and no other user can make it lead elsewhere."""
    path = Path(os.path.realpath(private.path))
    try:
        found = path.stat()
        return os.path.samestat(found, os.fstat(private.descriptor)) and all(
            _is_guarded(directory.stat()) for directory in path.parents
        )
    except OSError:
        return False


def _is_guarded(directory: os.stat_result) -> bool:
    """Return whether only root and this user can rename this user's files in a directory."""
    shared = directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not directory.st_mode & stat.S_ISVTX
    return directory.st_uid in (0, os.geteuid()) and not shared
