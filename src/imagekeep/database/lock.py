"""Locks between processes and threads, on the bytes of one file beside the store's.

Byte 0 is the writers' lock: held for the time of one write transaction, so that writers wait in line here,
briefly, and not in SQLite's busy handler, whose back-off is unfair (waits of seconds with four writers).
Byte 1 is a turnstile, and the others stand for references: an update holds its reference's byte from before it
asks the source until it has committed, so that of two updates of one reference the later answer always ends on
top. Everyone passes the turnstile before waiting for references; who waits for all of them stays in it, so that
those already inside finish, and newcomers do not keep it waiting for ever.

The locks are Linux's open file description locks: they exclude threads of one process as well as processes,
and the kernel drops them when their holder dies. Readers take none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import struct
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database.files import create_private
from imagekeep.errors import PermissionDeniedError, StoreBusyError, StoreUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

WRITER_WAIT = 10.0
"""Seconds a writer waits for the others; a write transaction takes milliseconds, a large batch a second."""

REFERENCE_WAIT = 60.0
"""Seconds an update waits for another of the same reference, which may be waiting for a slow source."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.004
_LAST_BYTE = 2**62


class ByteRange(NamedTuple):
    """A run of bytes of the lock file: what one lock covers."""

    start: int
    length: int


WRITERS = ByteRange(0, 1)
TURNSTILE = ByteRange(1, 1)
ALL_REFERENCES = ByteRange(2, _LAST_BYTE - 2)


def writer_lock(path: Path) -> AbstractContextManager[None]:
    """Hold the writers' lock of the store at `path`; raises as `locked` does."""
    return locked(path, [WRITERS], WRITER_WAIT)


def lock_references(path: Path, references: Iterable[str] | None) -> AbstractContextManager[None]:
    """Hold these references of the store at `path`, or with None all of them; raises as `locked` does."""
    if references is None:
        return locked(path, [TURNSTILE, ALL_REFERENCES], REFERENCE_WAIT)
    return locked(path, ranges_of(references), REFERENCE_WAIT, through=TURNSTILE)


def ranges_of(references: Iterable[str]) -> list[ByteRange]:
    """Return the bytes that stand for references, in the one order in which everyone takes them.

    The common order keeps two batches from each waiting for the other. Two references on one byte (chance:
    2**-56) only wait for each other.
    """
    first = ALL_REFERENCES.start
    bytes_ = {int.from_bytes(blake2b(r.encode(), digest_size=7).digest()) + first for r in references}
    return [ByteRange(byte, 1) for byte in sorted(bytes_)]


@contextlib.contextmanager
def locked(
    path: Path, byte_ranges: Iterable[ByteRange], wait: float, *, through: ByteRange | None = None
) -> Iterator[None]:
    """Hold `extents` of the lock file of the store at `path`, waiting at most `wait` seconds in all.

    `through` is held only for a moment, before the others are waited for. Raises StoreBusyError when the wait
    is over, PermissionDeniedError or StoreUnavailableError where the lock file cannot be opened.
    """
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + wait
        if through is not None:
            _take(descriptor, through, deadline, path, wait)
            _request(descriptor, fcntl.F_UNLCK, through)
        for byte_range in byte_ranges:
            _take(descriptor, byte_range, deadline, path, wait)
        yield
    finally:
        # Closing alone would leave the locks to a child that was forked meanwhile and has the descriptor too.
        _request(descriptor, fcntl.F_UNLCK, ByteRange(0, 0))
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the lock file, making it where there is none; only its owner may use it."""
    name = f"{path}-lock"
    try:
        while True:
            try:
                return os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):  # another may make it first
                    return create_private(name)
    except PermissionError as error:
        raise PermissionDeniedError(f"lock file {printable(name)}: {error.strerror}") from error
    except OSError as error:
        raise StoreUnavailableError(f"lock file {printable(name)}: {error.strerror}") from error


def _take(descriptor: int, byte_range: ByteRange, deadline: float, path: Path, wait: float) -> None:
    """Take one lock, asking again after short pauses: the kernel's own wait has no limit.

    The pauses are drawn at random, so that waiters do not ask in step.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            _request(descriptor, fcntl.F_WRLCK, byte_range)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreUnavailableError(f"lock file of {printable(path)}: {error.strerror}") from error
        else:
            return
        if time.monotonic() >= deadline:
            raise StoreBusyError(
                f"store {printable(path)}: others were writing for {wait:g} s; try again, or end them"
            )
        time.sleep(random.uniform(0, pause))  # noqa: S311 - no secret hangs on it
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _request(descriptor: int, kind: int, byte_range: ByteRange) -> None:
    """Ask the kernel to take or drop a lock, without waiting; a length of 0 reaches to the end."""
    flock = struct.pack("hhqqi", kind, os.SEEK_SET, byte_range.start, byte_range.length, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, flock)
