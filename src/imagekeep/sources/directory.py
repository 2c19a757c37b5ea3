"""Reads files in an untrusted directory: a path never leaves it, and opening never blocks.

Each step of a path is opened relative to the one above and never through a link (openat with O_NOFOLLOW), so no
link, `..` or swap in between leads elsewhere. Only regular files are read, and they are opened without blocking, so
a FIFO in place of a blob does not hang.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagekeep.errors import (
    CorruptContentError,
    ImagekeepError,
    InvalidArgumentError,
    PermissionDeniedError,
    SourceUnavailableError,
    from_os_error,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_STEP = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK = 1 << 20
_NOT_A_FILE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes when a file is written or replaced; times are in nanoseconds since 1970."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """Return the signature of an opened file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def open_regular(directory: Path, *parts: str) -> Iterator[int]:
    """Yield a descriptor of the regular file at `parts` beneath `directory`, closed afterwards.

    `directory` itself is trusted and may be a link. Raises FileNotFoundError if a part is
    missing, SourceUnavailableError if `directory` is missing or reading fails, InvalidArgumentError if it is not
    a directory, CorruptContentError if a part is a link or not a regular file, and PermissionDeniedError.
    """
    with _open_beneath(directory, parts, os.O_NONBLOCK) as opened:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise _not_a_file(directory, "/".join(parts))
        yield opened


def regular_sizes(
    directory: Path, *parts: str, names: Iterable[str] | None = None
) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each regular file in the directory at `parts` beneath `directory`.

    With `names`, only of those that exist. Links are left out. Raises as `open_regular` does.
    """
    with _open_beneath(directory, parts, os.O_DIRECTORY) as opened:
        try:
            for name in _names_in(opened) if names is None else names:
                if (size := _regular_size(opened, name)) is not None:
                    yield name, size
        except OSError as failure:
            what = f"cannot list {printable(directory.joinpath(*parts))}"
            raise from_os_error(failure, what, SourceUnavailableError) from failure


def _names_in(opened: int) -> Iterator[str]:
    with os.scandir(opened) as entries:
        for entry in entries:
            yield entry.name


def _regular_size(opened: int, name: str) -> int | None:
    """Return the size of a regular file in an open directory; None if it is missing or something else."""
    try:
        status = os.stat(name, dir_fd=opened, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _open_beneath(directory: Path, parts: Sequence[str], flag: int) -> Iterator[int]:
    """Yield a descriptor of what is at `parts` beneath `directory`; raises as `open_regular` does."""
    path = "/".join(parts)
    opened = [_open_directory(directory)]
    try:
        for step in parts[:-1]:
            opened.append(_open_step(step, os.O_DIRECTORY, opened[-1], directory, path))
        opened.append(_open_step(parts[-1], flag, opened[-1], directory, path))
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def read_whole(descriptor: int, limit: int, name: str) -> bytes:
    """Return the content of an open file of at most `limit` bytes.

    Raises CorruptContentError if it is larger, even if it grows meanwhile, and SourceUnavailableError.
    """
    if os.fstat(descriptor).st_size > limit:
        raise too_large(name, limit)
    chunks = []
    left = limit + 1
    while left and (chunk := read_at_most(descriptor, min(left, _CHUNK), name)):
        chunks.append(chunk)
        left -= len(chunk)
    if not left:
        raise too_large(name, limit)
    return b"".join(chunks)


def read_at_most(descriptor: int, count: int, name: str) -> bytes:
    """Return the next bytes of an open file; raises SourceUnavailableError."""
    try:
        return os.read(descriptor, count)
    except OSError as failure:
        raise from_os_error(failure, f"cannot read {printable(name)}", SourceUnavailableError) from failure


def too_large(name: str, limit: int) -> CorruptContentError:
    """Return the error for a document of more than `limit` bytes."""
    return CorruptContentError(f"{printable(name)} exceeds the maximum size of a document ({limit} bytes)")


def _open_directory(directory: Path) -> int:
    """Open the trusted directory."""
    try:
        return os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except PermissionError as failure:
        raise _denied(str(directory)) from failure
    except NotADirectoryError as failure:
        raise InvalidArgumentError(
            f"{printable(directory)} is not a directory (for an archive give archive:FILE)"
        ) from failure
    except FileNotFoundError as failure:
        raise _no_directory(directory) from failure
    except OSError as failure:
        what = f"cannot open directory {printable(directory)}"
        raise from_os_error(failure, what, SourceUnavailableError) from failure
    except ValueError as failure:
        raise InvalidArgumentError(f"{printable(directory)} is not a path: {failure}") from failure


def _no_directory(directory: Path) -> ImagekeepError:
    """Return the error for a directory that does not exist: a dangling link, or skopeo's `oci:DIRECTORY:TAG`."""
    if directory.is_symlink():
        return SourceUnavailableError(
            f"cannot open directory {printable(directory)}: it is a link to a file that does not exist"
        )
    if tagged := tag_given(directory, "oci", os.path.isdir):
        return tagged
    return SourceUnavailableError(f"cannot open directory {printable(directory)}: No such file or directory")


def tag_given(path: Path, scheme: str, exists: Callable[[str], bool]) -> InvalidArgumentError | None:
    """Return the error for a missing path if it is an existing one and skopeo's `:TAG` or `:NAME:TAG`."""
    parts = str(path).split(":")
    parents = (":".join(parts[:count]) for count in range(1, len(parts)))
    if before := next(filter(exists, parents), None):
        return InvalidArgumentError(
            f"{printable(path)} does not exist; a source takes no tag: give {scheme}:{printable(before)}"
        )
    return None


def _open_step(step: str, flag: int, above: int, directory: Path, path: str) -> int:
    """Open one name directly in an open directory."""
    try:
        return os.open(step, _STEP | flag, dir_fd=above)
    except FileNotFoundError:
        raise
    except PermissionError as failure:
        raise _denied(f"{directory}/{path}") from failure
    except OSError as failure:
        if failure.errno in _NOT_A_FILE:
            raise _not_a_file(directory, path) from failure
        what = f"cannot open {printable(f'{directory}/{path}')}"
        raise from_os_error(failure, what, SourceUnavailableError) from failure


def _denied(path: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{printable(path)}: permission denied (make it readable, or run as its owner)"
    )


def _not_a_file(directory: Path, path: str) -> CorruptContentError:
    return CorruptContentError(
        f"{printable(f'{directory}/{path}')} is not a regular file (links are not followed)"
    )
