"""Locks between processes and threads, on the bytes of one file beside the store's.

Byte 0 is the writers' lock. A writer holds it for one write transaction, so that writers queue here, briefly,
and not in SQLite's busy handler, whose back-off is unfair (waits of seconds with four writers). Byte 1 is a
turnstile, and the others stand for references. An update holds its reference's byte from before it asks the
source until it has committed, so that of two updates of one reference the later answer stays. Every update
passes the turnstile before it waits for references; one that waits for all of them stays in it, so that those
already inside finish, and newcomers cannot keep it waiting for ever. The last byte is the watcher's, held while
it runs. Whether a store is watched is asked of the kernel (F_OFD_GETLK), because a PID means nothing in another
PID namespace, and may belong to another process by now.

The locks are Linux's open file description locks: they exclude threads of one process as well as processes, and the
kernel drops them when their holder dies. Readers take none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from imagekeep import forks
from imagekeep.database.blake2 import blake2b
from imagekeep.database.files import Named, create_private, look
from imagekeep.database.trusted_files import is_own, require_own, trusted_owners
from imagekeep.errors import (
    AlreadyWatchedError,
    StoreBusyError,
    StoreUnavailableError,
    from_os_error,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imagekeep.errors import ImagekeepError

WRITER_WAIT = 10.0
"""Seconds a writer waits for the others; a write transaction takes milliseconds, a large batch a second."""

REFERENCE_WAIT = 60.0
"""Seconds an update waits for another of the same reference, which may be waiting for a slow source."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.004
_LAST_BYTE = 2**62


class ByteRange(NamedTuple):
    """The bytes of the lock file that one lock covers."""

    start: int
    length: int


WRITERS = ByteRange(0, 1)
TURNSTILE = ByteRange(1, 1)
ALL_REFERENCES = ByteRange(2, _LAST_BYTE - 2)
WATCHER = ByteRange(_LAST_BYTE, 1)
SQLITE_SHARED = ByteRange(0x40000002, 510)
"""In the database itself (SQLite: os.h, SHARED_FIRST and SHARED_SIZE)."""


def writer_lock(path: Path, wait: float = WRITER_WAIT) -> AbstractContextManager[None]:
    """Hold the writers' lock of the store at `path`, waiting at most `wait` seconds; raises as `locked` does."""
    return locked(path, [WRITERS], wait)


def lock_references(path: Path, references: Iterable[str] | None) -> AbstractContextManager[None]:
    """Lock these references of the store at `path`, or all of them with None; raises as `locked` does."""
    if references is None:
        return locked(path, [TURNSTILE, ALL_REFERENCES], REFERENCE_WAIT)
    return locked(path, ranges_of(references), REFERENCE_WAIT, through=TURNSTILE)


def ranges_of(references: Iterable[str]) -> list[ByteRange]:
    """Return the bytes that stand for references, in order, so that two batches never wait for each other.

    Two references that share a byte (probability 2**-56) only wait for each other.
    """
    first = ALL_REFERENCES.start
    bytes_ = {int.from_bytes(blake2b(r.encode(), digest_size=7).digest()) + first for r in references}
    return [ByteRange(byte, 1) for byte in sorted(bytes_)]


@contextlib.contextmanager
def locked(
    path: Path, byte_ranges: Iterable[ByteRange], wait: float, *, through: ByteRange | None = None
) -> Iterator[None]:
    """Lock `byte_ranges` of the lock file of the store at `path`, waiting at most `wait` seconds in all.

    `through` is locked first, and only for a moment. A lock that is held at a fork stays the parent's. Raises
    StoreBusyError after `wait` seconds, PermissionDeniedError or StoreUnavailableError if the lock file cannot be
    opened or locked.
    """
    file = _LockFile(path)
    try:
        deadline = time.monotonic() + wait
        if through is not None:
            _take(file.descriptor, through, deadline, path, wait)
            _request(file.descriptor, fcntl.F_UNLCK, through)
        for byte_range in byte_ranges:
            _take(file.descriptor, byte_range, deadline, path, wait)
        yield
    finally:
        file.close()


class _LockFile:
    def __init__(self, path: Path) -> None:
        activity = forks.begin_activity()
        try:
            self.descriptor = _open(path)
            _files.add(self)
        finally:
            forks.end_activity(activity)

    def is_at(self, path: Path) -> bool:
        """Return whether this is still the lock file of the store at `path`."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.lstat(f"{path}-lock"))
        except OSError:
            return False

    def close(self) -> None:
        """Drop the locks and close the file, except in a forked child: they are the parent's."""
        if self not in _files:
            return
        _files.discard(self)
        # Closing alone would leave the locks to a child that was forked meanwhile and has the descriptor too. If
        # this fails, no lock was held, and the error that says why must not be hidden.
        with contextlib.suppress(OSError):
            _request(self.descriptor, fcntl.F_UNLCK, ByteRange(0, 0))
        os.close(self.descriptor)


_files: set[_LockFile] = set()


def _close_inherited(_prepared: bool) -> None:
    """Close a child's copies of its parent's lock files, which would keep the locks of a killed parent."""
    for file in _files:
        os.close(file.descriptor)
    _files.clear()


forks.register(after_in_child=_close_inherited)


class WatcherLock:
    """The lock of the one watcher of the store at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: _LockFile | None = None

    def take(self) -> None:
        """Take the lock without waiting, unless it is held on the present lock file.

        A store may be deleted and created anew, together with its lock file. Raises AlreadyWatchedError if another
        watcher holds it, and as `locked` does.
        """
        if self._file is not None and self._file.is_at(self._path):
            return
        self.release()
        file = _LockFile(self._path)
        try:
            if not _try(file.descriptor, WATCHER, self._path):
                raise AlreadyWatchedError(
                    f"store {printable(self._path)}: already watched by another process"
                )
        except BaseException:
            file.close()
            raise
        self._file = file

    def release(self) -> None:
        """Drop the lock, if it is held."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextlib.contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Hold SQLite's shared lock on a database, like another program that reads it.

    When this ends, no connection of this process to the file may be open: closing the file drops their locks.
    """
    with contextlib.ExitStack() as stack, forks.activity():
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags)
            stack.callback(os.close, descriptor)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, SQLITE_SHARED))
        yield


def is_watched(path: Path) -> bool:
    """Return whether a watcher of the store at `path` is running, in any PID namespace.

    Raises PermissionDeniedError or StoreUnavailableError if the lock file cannot be opened.
    """
    try:
        descriptor = os.open(f"{path}-lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unopened(f"{path}-lock", error) from error
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, WATCHER))
    except OSError as error:
        raise _unlockable(path, error) from error
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _open(path: Path) -> int:
    """Open the lock file, or create it so that only its owner may use it."""
    name = f"{path}-lock"
    try:
        descriptor = _open_or_create(name, path)
    except OSError as error:
        if found := look(name):
            _require_own(found, path)
        raise _unopened(name, error) from error
    try:
        _require_own(Named(name, os.fstat(descriptor)), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_or_create(name: str, path: Path) -> int:
    while True:
        try:
            return os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process may create it first
                descriptor = create_private(name)
                _give_to_owner(descriptor, path)
                return descriptor


def _give_to_owner(descriptor: int, path: Path) -> None:
    """Give a lock file that root created to the store's owner, who could not open it otherwise.

    SQLite does the same with the files that it creates.
    """
    if os.geteuid() == 0 and (store := look(str(path))) is not None:
        os.fchown(descriptor, store.status.st_uid, store.status.st_gid)


def _require_own(file: Named, path: Path) -> None:
    """Raise UntrustedFileError if the lock file of the store at `path` is another user's."""
    owners = trusted_owners(None)
    # Only the errors, and a file that is neither this user's nor root's, need a look at the store.
    if not is_own(file.status, owners):
        store = look(str(path))
        require_own(file, trusted_owners(store), store)


def _unopened(name: str, error: OSError) -> ImagekeepError:
    return from_os_error(error, f"lock file {printable(name)}", StoreUnavailableError)


def _unlockable(path: Path, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"lock file {printable(f'{path}-lock')}: {error.strerror} (the file system must support open file "
        "description locks; move the store to one that does)"
    )


def _take(descriptor: int, byte_range: ByteRange, deadline: float, path: Path, wait: float) -> None:
    """Take one lock, retrying after short pauses: the kernel's own wait has no timeout.

    The pauses are random, so that waiters do not retry in step.
    """
    pause = _FIRST_PAUSE
    while True:
        if _try(descriptor, byte_range, path):
            return
        if time.monotonic() >= deadline:
            raise StoreBusyError(
                f"store {printable(path)}: locked by another writer for {wait:g} s; retry, or stop it"
            )
        time.sleep(pause * os.urandom(1)[0] / 255)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _try(descriptor: int, byte_range: ByteRange, path: Path) -> bool:
    """Take one lock if it is free; return whether it was taken."""
    try:
        _request(descriptor, fcntl.F_WRLCK, byte_range)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise _unlockable(path, error) from error
        return False
    return True


def _request(descriptor: int, kind: int, byte_range: ByteRange) -> None:
    """Take or drop a lock without waiting; a length of 0 reaches to the end."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(kind, byte_range))


def _flock(kind: int, byte_range: ByteRange) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte_range.start, byte_range.length, 0)


_FLOCK = "hhqqi"
