"""Copies a store: the copy is complete, verified, readable only by its owner, and never replaces another file.

It is written in a private directory beside its destination, compared with the store, and only then given its name,
through the private directory's descriptor, so that no other user can exchange it before.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import statements
from imagekeep.database.connection import connect
from imagekeep.database.driver import translating
from imagekeep.database.files import (
    directory_for_sqlite,
    open_directory,
    private_directory,
)
from imagekeep.database.queries import count
from imagekeep.database.revision import REVISIONS, lift_bound, read_schema
from imagekeep.database.trusted_files import require_no_companion
from imagekeep.errors import (
    CorruptStoreError,
    FailedPreconditionError,
    InvalidArgumentError,
    StoreUnavailableError,
    from_os_error,
    printable,
)
from imagekeep.paths import full_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from imagekeep.database.files import PrivateDirectory
    from imagekeep.database.queries import Counts

MODE = 0o600

_FILE = "copy.db"
"""The name of a copy in its private directory."""

_LONGEST_NAME = 255
"""Bytes of the longest file name on every common file system."""

_CHUNK = 1 << 20
_RENAME_NOREPLACE = 1


class Summary(NamedTuple):
    """What is compared with a copy: revision and row counts; None counts for a schema that is not imagekeep's."""

    revision: str | None
    counts: Counts | None


def backup_path(path: Path, revision: str | None) -> Path:
    """Return the path of a new backup beside the store, with its revision and the time.

    The revision is text from the file, so only a known one becomes part of the name.
    """
    label = "base" if revision is None else revision if revision in REVISIONS else "unknown"
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    suffix = f".{label}.{now}.backup"
    return path.with_name(_shortened(path.name, _LONGEST_NAME - len(suffix)) + suffix)


def _shortened(name: str, limit: int) -> str:
    """Return the characters of a name that fit in `limit` bytes."""
    while len(os.fsencode(name)) > limit:
        name = name[:-1]
    return name


def copy_store(path: Path, destination: Path) -> None:
    """Write a compact copy of one state of the store at `path` to a new file.

    The copy is in SQLite's rollback mode, so that it can be read in a read-only directory; imagekeep puts it back
    into WAL mode when it opens it to write. Raises FailedPreconditionError if `destination` exists,
    PermissionDeniedError or StoreUnavailableError if it cannot be written, CorruptStoreError if the store is
    damaged.
    """
    with new_file(destination) as partial, translating(path):
        with contextlib.closing(connect(path, read_only=True)) as store:
            version = _data_version(store)
            expected = summarize(store, path)
            lift_bound(store)  # copying may take long, and reads no view
            # A file: URI is read as the same bytes; a plain path would be encoded, or read as a URI itself.
            store.execute(statements.VACUUM_INTO, (partial.as_uri(),))
            unchanged = _data_version(store) == version
        with contextlib.closing(connect(partial)) as copy:
            copy.execute(statements.ROLLBACK_MODE)
        require_same(partial, expected if unchanged else Summary(expected.revision, None), path)


def summarize(connection: sqlite.Connection, path: Path) -> Summary:
    """Return the summary that a copy of the store at `path` must have; raises as `read_schema` does."""
    cursor = connection.cursor()
    schema = read_schema(cursor, path)
    countable = schema.revision in REVISIONS and not schema.comparison.differences
    return Summary(schema.revision, count(cursor) if countable else None)


def require_same(copy: Path, expected: Summary, path: Path) -> None:
    """Raise CorruptStoreError if a copy of the store at `path` is damaged, or not a copy of it."""
    with contextlib.closing(connect(copy, read_only=True)) as connection:
        (found, *_), *_ = connection.execute(statements.QUICK_CHECK)
        if found != "ok":
            raise CorruptStoreError(
                f"store {printable(path)}: damaged, so its copy would be ({printable(found)}); "
                "run `imagekeep db check`"
            )
        made = summarize(connection, copy)
    if made.revision != expected.revision or expected.counts not in (None, made.counts):
        raise CorruptStoreError(f"store {printable(path)}: its copy has other rows; check the disk and retry")


def _data_version(connection: sqlite.Connection) -> int:
    version: int = connection.execute(statements.DATA_VERSION).fetchone()[0]
    return version


@contextlib.contextmanager
def new_file(destination: Path) -> Iterator[Path]:
    """Yield the path of an empty private file for SQLite to fill; name it `destination` afterwards.

    It then has mode 0600 and is on disk. If the context fails, it is removed. Raises FailedPreconditionError if
    `destination` exists, InvalidArgumentError if SQLite would take it for a part of another database,
    PermissionDeniedError and StoreUnavailableError.
    """
    destination = full_path(destination)
    require_no_companion(destination)
    with (
        _naming(destination),
        open_directory(destination.parent) as parent,
        _absent(parent, destination.name),
        _private_file(parent, destination.parent) as (private, working),
    ):
        yield working.path / _FILE
        if working is not private:
            _copy_bytes(working, private)
        _sync(private)
        _name(private, parent, destination.name)
        os.fsync(parent)


@contextlib.contextmanager
def scratch_file(beside: Path) -> Iterator[Path]:
    """Yield the path of an empty private file on the same disk as `beside`; remove it afterwards.

    Raises PermissionDeniedError and StoreUnavailableError.
    """
    beside = full_path(beside)
    with (
        _naming(beside),
        open_directory(beside.parent) as parent,
        _private_file(parent, beside.parent) as (_, working),
    ):
        yield working.path / _FILE


@contextlib.contextmanager
def _private_file(parent: int, path: Path) -> Iterator[tuple[PrivateDirectory, PrivateDirectory]]:
    """Yield a private directory, and the one with an empty file for SQLite, which is mostly the same."""
    with private_directory(parent, path) as private, directory_for_sqlite(private) as working:
        os.close(_create(working))
        yield private, working


@contextlib.contextmanager
def _naming(destination: Path) -> Iterator[None]:
    """Raise the system's errors as imagekeep's, which name the destination."""
    name = printable(destination)
    try:
        yield
    except FileExistsError as error:
        raise FailedPreconditionError(f"{name} already exists; choose another name") from error
    except OSError as error:
        raise from_os_error(error, name, StoreUnavailableError) from error
    except ValueError as error:
        raise InvalidArgumentError(f"{name}: {error}") from error


@contextlib.contextmanager
def _absent(parent: int, name: str) -> Iterator[None]:
    """Raise FileExistsError at once if the name is taken."""
    with contextlib.suppress(FileNotFoundError):
        os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    yield


def _create(directory: PrivateDirectory) -> int:
    descriptor = os.open(
        _FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE, dir_fd=directory.descriptor
    )
    with contextlib.suppress(PermissionError):  # a file system without modes, like exFAT
        os.fchmod(descriptor, MODE)
    return descriptor


def _copy_bytes(source: PrivateDirectory, target: PrivateDirectory) -> None:
    """Copy the file to the private directory beside its destination."""
    written = _create(target)
    try:
        read = os.open(_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=source.descriptor)
        try:
            while os.sendfile(written, read, None, _CHUNK):
                pass
        finally:
            os.close(read)
    finally:
        os.close(written)


def _sync(directory: PrivateDirectory) -> None:
    descriptor = os.open(_FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory.descriptor)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(directory: PrivateDirectory, parent: int, name: str) -> None:
    """Move the file to its name; raise FileExistsError if that is taken by now.

    Not every file system has an exclusive rename, and SMB, exFAT and many FUSE file systems have no hard links.
    Linking comes second because the file then has two names for a moment.
    """
    for move in (_rename_exclusively, _link):
        try:
            move(directory.descriptor, parent, name)
        except FileExistsError:
            raise
        except OSError:
            continue
        return
    _rename_over_placeholder(directory.descriptor, parent, name)


def _rename_exclusively(directory: int, parent: int, name: str) -> None:
    """Rename the file unless the name is taken, by a Linux call that Python lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    arguments = (directory, os.fsencode(_FILE), parent, os.fsencode(name), _RENAME_NOREPLACE)
    if libc.renameat2(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _link(directory: int, parent: int, name: str) -> None:
    os.link(_FILE, name, src_dir_fd=directory, dst_dir_fd=parent)
    os.unlink(_FILE, dir_fd=directory)


def _rename_over_placeholder(directory: int, parent: int, name: str) -> None:
    """Reserve the name with an empty file, and rename over that."""
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE, dir_fd=parent))
    try:
        os.rename(_FILE, name, src_dir_fd=directory, dst_dir_fd=parent)
    except OSError:
        os.unlink(name, dir_fd=parent)
        raise
