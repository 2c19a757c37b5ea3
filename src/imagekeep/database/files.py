"""The files of a store: which ones a path names, and new ones that only their owner may use.

A config's environment may hold secrets, so what is created has mode 0600 in a directory of mode 0700.

A file is written in a private directory before it gets its name. Nobody but the owner may enter that directory, and
every step on what it holds goes through its descriptor, so it does not matter what becomes of its name. Only SQLite
takes names, so its path must be one that no other user can redirect.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    StoreUnavailableError,
    from_os_error,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_PATH = 504
"""Bytes of the longest absolute path: SQLite's 512 (MAX_PATHNAME) less `-journal`."""

MODE = 0o600
DIRECTORY_MODE = 0o700

FileId = tuple[int, int, int]
"""Device, inode and number of names. The inode of an open file is not reused.

A file that gets a second name counts as another one: a program that opens it by that name uses other companions.
"""

_NAME = r"\.imagekeep-copy-[0-9a-f]{16}"

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_LONGEST_PATH = 480
"""Bytes of a directory's path that leave room for a file's name; SQLite opens no path of more than 512."""


class Named(NamedTuple):
    """A file or directory by its name, and what lstat says about it."""

    name: str
    status: os.stat_result


class StoreFiles(NamedTuple):
    """The files of a store; None for one that is missing, or that this user cannot reach.

    The database is None too if it is empty. A connection keeps SQLite from removing its -wal and -shm files, so
    that they stay the same while it is open.
    """

    database: FileId | None
    wal: FileId | None
    shm: FileId | None

    def lacks_only_companions_of(self, opened: StoreFiles) -> bool:
        """Return whether the files differ from those opened only by a missing -wal or -shm file."""
        return (
            self.database == opened.database
            and self.wal in (opened.wal, None)
            and self.shm in (opened.shm, None)
        )


def require_openable_name(path: Path) -> None:
    """Raise InvalidArgumentError if a path is longer than SQLite can open."""
    name = str(path)
    if (
        name.startswith("/") and len(name) * 4 <= LONGEST_PATH
    ):  # UTF-8 takes at most four bytes for a character
        return
    length = len(os.fsencode(path.absolute()))
    if length > LONGEST_PATH:
        raise InvalidArgumentError(
            f"store {printable(path)}: path of {length} bytes; SQLite opens at most {LONGEST_PATH} "
            "(use a shorter one)"
        )


def look(name: str) -> Named | None:
    """Return what is at a name, not following links, or None.

    Raises PermissionDeniedError or StoreUnavailableError.
    """
    try:
        return Named(name, os.lstat(name))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, printable(name), StoreUnavailableError) from error
    except ValueError as error:
        raise StoreUnavailableError(f"{printable(name)}: {error}") from error


def identify(path: Path | str) -> StoreFiles:
    """Return which files the path names now."""
    name = str(path)
    return StoreFiles(file_id(name, or_empty=False), file_id(name + "-wal"), file_id(name + "-shm"))


def has_lost_wal(path: Path, opened: StoreFiles) -> bool:
    """Return whether the -wal file that was opened has lost its name, and no other has been written to."""
    now = identify(path)
    if opened.wal is None or (now.database, opened.wal) == (opened.database, now.wal):
        return False
    return now.database == opened.database and not _size(f"{path}-wal")


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def file_id(path: Path | str, *, or_empty: bool = True) -> FileId | None:
    """Return the identity of a file, not following links; None if there is none, or it cannot be reached."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return file_id_of(found) if found.st_size or or_empty else None


def file_id_of(status: os.stat_result) -> FileId:
    """Return the identity of the file that has a status."""
    return status.st_dev, status.st_ino, status.st_nlink


def size_on_disk(path: Path) -> int:
    """Return the size of the store at `path` in bytes, its -wal file included."""
    size = 0
    for file in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(FileNotFoundError):  # the last connection to close removes the -wal file
            size += file.stat().st_size
    return size


def create_private(path: Path | str) -> int:
    """Create a file of mode 0600, whatever the umask, and return its descriptor, open to read and write.

    Raises FileExistsError if the name is taken, and as `os.open` does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    os.fchmod(descriptor, MODE)
    return descriptor


def create_private_directories(directory: Path) -> list[Path]:
    """Create a directory and its missing parents, each of mode 0700 whatever the umask; return what was created.

    Raises as `os.mkdir` does.
    """
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    made = []
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process may create it first
            each.mkdir(DIRECTORY_MODE)
            _set_mode(each)
            made.append(each)
    return made


def _set_mode(directory: Path) -> None:
    """Set the mode that the umask has reduced; not by name, which may be another user's link by now."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        Path(f"/proc/self/fd/{descriptor}").chmod(DIRECTORY_MODE)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Write a directory to disk, so that the names in it survive a power cut."""
    with open_directory(directory) as descriptor:
        os.fsync(descriptor)


class PrivateDirectory(NamedTuple):
    """A directory that only this user may enter: its descriptor, and the path it was created at."""

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
    """Yield a new directory in `path`, whose descriptor is `parent`; remove it and its files afterwards.

    Directories that killed processes left there are removed too. Raises PermissionDeniedError if the directory
    does not belong to this user, and as `os.mkdir` does.
    """
    remove_abandoned(parent)
    name, descriptor = _create(parent, path)
    try:
        yield PrivateDirectory(descriptor, path / name)
    finally:
        with contextlib.suppress(OSError):  # another user may have moved it away; it is empty by now
            _remove(parent, name, descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def directory_for_sqlite(private: PrivateDirectory) -> Iterator[PrivateDirectory]:
    """Yield `private`, or one like it in the temporary directory if SQLite cannot safely use its path."""
    if len(os.fsencode(private.path)) <= _LONGEST_PATH and _is_safe(private):
        yield private
        return
    from tempfile import gettempdir  # seldom needed, and slow to import

    temporary = Path(os.path.realpath(gettempdir()))
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
    """Remove from an open directory this user's private directories that no process has locked."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if re.fullmatch(_NAME, entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(parent, entry.name)


def _create(parent: int, path: Path) -> tuple[str, int]:
    """Create a directory and lock it, so that no process takes it for an abandoned one."""
    while True:
        name = f".imagekeep-copy-{os.urandom(8).hex()}"
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
                f"{printable(path)}: new directories there belong to user {found.st_uid}, not to this one; "
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


def user_name(number: int) -> str:
    """Return a user's name, or the number of a user without one."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
