"""Checks, before SQLite opens a store, that no other user could have written its files.

SQLite trusts the files beside a store: it reads a forged -wal into the store, rolls a forged -journal back into it,
and waits for a FIFO of such a name. So, as sshd's StrictModes does for its files:

* every directory above the store belongs to the store's owner, this user or root, and no other user may write to it
  unless it is sticky, like /tmp; the owner's private group may;
* the store, -wal, -shm, -journal and -lock are regular files of the same owners, have one name, are not mount
  points, and are not writable by everyone;
* in a sticky directory, where anyone may have created the store, only root's or this user's own is written to, and
  missing companions are created, empty, before the last check: nobody can put one there after it.

Files are opened only with O_PATH: closing any other descriptor of the store would drop the locks that SQLite holds
in this process (https://sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from imagekeep.database.files import Named, create_private, look, user_name
from imagekeep.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotAStoreError,
    UntrustedFileError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COMPANIONS = ("-wal", "-shm", "-journal", "-lock")
"""Suffixes of the files beside a store: SQLite's three, and imagekeep's lock."""

_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFDIR: "directory",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}

_WHOLE_RANGE = ["0", "0", "4294967295"]
"""/proc/self/uid_map outside of user namespaces."""


_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def require_trusted(path: Path, store: Named | None, *, writing: bool) -> list[str]:
    """Raise UntrustedFileError if another user could have written what SQLite would read.

    `store` is what `look` found at the path; if that is None nothing is checked. Returns the suffixes of the
    companions that exist, without the dash. Raises NotAStoreError if the store is not a regular file of one name,
    and as `require_no_remains` and `look` do.
    """
    if store is None:
        return []
    directory, companions = _require_trusted(path, store, writing=writing)
    if _is_shared(directory) and _occupy(path, store):
        _, companions = _require_trusted(path, store, writing=writing)
    return [companion.name.rpartition("-")[2] for companion in companions]


def _require_trusted(path: Path, store: Named, *, writing: bool) -> tuple[Named, list[Named]]:
    """Return the store's directory, and the companions that exist."""
    require_regular(store, NotAStoreError)
    owners = trusted_owners(store)
    directories = _directories(path)
    _require_directories(directories, owners)
    if not store.status.st_size:
        require_no_remains(path)
    if writing and store.status.st_uid not in trusted_owners(None) and _is_shared(directories[0]):
        raise _refuse(
            store, f"{_described(store)}, in a directory where anyone may have made it", "remove it"
        )
    companions = _companions(path)
    for file in (store, *companions):
        require_own(file, owners, store)
    # Only root can mount a companion, and a writer would refuse it, so a reader need not look at each.
    _require_same_mount(directories[0], store, companions if writing else ())
    return directories[0], companions


def require_trusted_directory(path: Path, what: str = "store") -> None:
    """Raise UntrustedFileError if another user could replace the file that is created at `path`."""
    _require_directories(_directories(path), trusted_owners(None), what)


def require_no_remains(path: Path) -> None:
    """Raise FailedPreconditionError if a store that is gone has left its -wal file or journal at an empty path.

    SQLite would delete such a -wal file, and with it what was last written to that store.
    """
    suffixes = ("-wal", "-journal") if look(str(path)) is None else ("-wal",)
    for suffix in suffixes:
        left = look(f"{path}{suffix}")
        if left is None or not left.status.st_size:
            continue
        store = look(str(path))
        if store is None or not store.status.st_size:  # unless another process has just created it
            raise FailedPreconditionError(
                f"{printable(left.name)}: belongs to a store that is missing (move it to its store, or "
                f"run `rm {_quoted(left)}`)"
            )


def require_no_companion(path: Path) -> None:
    """Raise InvalidArgumentError if a new file would be taken for the companion of an existing file."""
    for suffix in COMPANIONS:
        base = look(str(path).removesuffix(suffix)) if path.name.endswith(suffix) else None
        if base is not None and stat.S_ISREG(base.status.st_mode):
            raise InvalidArgumentError(
                f"{printable(path)}: would be taken for a part of {printable(base.name)} (choose another name)"
            )


def trusted_owners(store: Named | None) -> set[int]:
    """Return the users whose files are trusted: root, this one, and the owner of the store if there is one."""
    owners = {0, os.geteuid()}
    return owners if store is None else owners | {store.status.st_uid}


def is_own(status: os.stat_result, owners: set[int]) -> bool:
    """Return whether a file is a regular one with one name that only these owners may write."""
    mode = status.st_mode
    return stat.S_ISREG(mode) and status.st_nlink <= 1 and status.st_uid in owners and not mode & stat.S_IWOTH


def require_own(file: Named, owners: set[int], store: Named | None) -> None:
    """Raise unless `is_own` is true of a file."""
    if is_own(file.status, owners):
        return
    require_regular(file, NotAStoreError if file is store else UntrustedFileError)
    if file.status.st_nlink > 1:
        raise _not_alone(
            file, store, f"has {file.status.st_nlink} names", "remove the others; `find -samefile` shows them"
        )
    if file.status.st_uid not in owners:
        owner = "another user's" if store is None else f"{user_name(store.status.st_uid)}'s"
        raise _refuse(file, f"{_described(file)}, but the store is {owner}", f"run `rm {_quoted(file)}`")
    if file.status.st_mode & stat.S_IWOTH:
        raise _refuse(
            file, f"every user can write to it: {_described(file)}", f"run `chmod o-w {_quoted(file)}`"
        )


def require_regular(file: Named, kind: type[NotAStoreError | UntrustedFileError]) -> None:
    """Raise an error of this kind unless a file is a regular one."""
    if stat.S_ISREG(file.status.st_mode):
        return
    found = _KINDS.get(stat.S_IFMT(file.status.st_mode), "special file")
    remedy = "give the path of a file" if kind is NotAStoreError else f"run `rm -r {_quoted(file)}`"
    if kind is NotAStoreError and stat.S_ISLNK(file.status.st_mode):
        remedy = "give the path that it points at"
    raise kind(f"{printable(file.name)}: a {found}, not a file ({remedy})")


def _parent(path: Path) -> str:
    """Return the directory of a path; a string, because building a Path costs more than looking at a file."""
    name = str(path)
    return (name if name.startswith("/") else str(path.absolute())).rpartition("/")[0] or "/"


def _directories(path: Path) -> list[Named]:
    """Return every existing directory above a path, the nearest first, and the targets of links among them."""
    directory = _parent(path)
    parents = list(_upwards(directory))
    if any(stat.S_ISLNK(parent.status.st_mode) for parent in parents):
        return [*_upwards(os.path.realpath(directory)), *parents]
    return parents


def _upwards(directory: str) -> Iterator[Named]:
    """Yield a directory and those above it that exist."""
    while True:
        if found := look(directory):
            yield found
        above = directory.rpartition("/")[0] or "/"
        if above == directory:
            return
        directory = above


def _require_directories(directories: Iterable[Named], owners: set[int], what: str = "store") -> None:
    """Raise UntrustedFileError if a user who is not trusted can replace what is in a directory.

    All but the first may belong to a user outside this user namespace, as `/` does in some containers.
    """
    for number, directory in enumerate(directories):
        if directory.status.st_uid not in owners or directory.status.st_mode & _WRITABLE_BY_OTHERS:
            _require_directory(directory, owners, what, or_unmapped=number > 0)


def _require_directory(directory: Named, owners: set[int], what: str, *, or_unmapped: bool) -> None:
    status = directory.status
    if status.st_uid not in owners and not (or_unmapped and _is_unmapped(status.st_uid)):
        raise _refuse(
            directory,
            f"{_described(directory)}, who can replace the {what}",
            f"run `chown {user_name(os.geteuid())} {_quoted(directory)}`, or keep the {what} elsewhere",
        )
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH:
        raise _refuse(
            directory,
            f"every user can write to it: {_described(directory)}",
            f"run `chmod o-w {_quoted(directory)}`, or keep the {what} elsewhere",
        )
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_uid, status.st_gid):
        raise _refuse(
            directory,
            f"group {_group(status.st_gid)} can write to it: {_described(directory)}",
            f"run `chmod g-w {_quoted(directory)}`, or keep the {what} elsewhere",
        )


def _is_shared(directory: Named) -> bool:
    """Return whether users other than its owner may create files in a directory."""
    status = directory.status
    return bool(status.st_mode & stat.S_IWOTH) or (
        bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_uid, status.st_gid)
    )


def _occupy(path: Path, store: Named) -> bool:
    """Create SQLite's missing companions, empty, if this user may; return whether it did.

    SQLite treats empty ones as missing, and deletes them like its own. As root it gives what it opens to the
    store's owner, so that nobody could see afterwards who created it.
    """
    owner, user = store.status.st_uid, os.geteuid()
    if user not in (0, owner):
        return False
    for suffix in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            descriptor = create_private(f"{path}{suffix}")
            try:
                if user != owner:
                    os.fchown(descriptor, owner, store.status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(store.status.st_mode) & 0o666)
            finally:
                os.close(descriptor)
    return True


def _require_same_mount(directory: Named, store: Named, companions: Iterable[Named]) -> None:
    """Raise if a file is a mount point: other programs may see another file in its directory."""
    in_directory = directory.name, directory.status.st_dev, directory.status.st_ino
    for file in (store, *companions):
        status = file.status
        if _is_mount_point(in_directory, file.name, status.st_dev, status.st_ino, status.st_ctime_ns):
            raise _not_alone(file, store, "mounted by itself", "mount its directory instead")


@lru_cache(maxsize=16)
def _is_mount_point(directory: tuple[str, int, int], name: str, *_file: int) -> bool:
    """Return whether a file is on another mount than its directory.

    The answer is kept, as it takes half the time of checking a store. For the same file in the same directory it
    can only change if the file is mounted on itself, and that leaves every program the same companions.
    """
    mount = _mount_id(directory[0])
    return mount is not None and _mount_id(name) not in (mount, None)


def _companions(path: Path) -> list[Named]:
    """Return the files that exist beside the store."""
    name = str(path)
    return [found for suffix in COMPANIONS if (found := look(name + suffix)) is not None]


def _mount_id(name: str) -> int | None:
    """Return the number of the mount that a name is on; None if it is gone or there is no /proc.

    The device does not show it: a file bound over another may be on the same device, and on overlayfs each file has
    the device of its layer.
    """
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        information = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(information, 512).split()
        finally:
            os.close(information)
        return int(fields[fields.index(b"mnt_id:") + 1])
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


@lru_cache(maxsize=16)
def _is_private_group(owner: int, group: int) -> bool:
    """Return whether a group is the user's own: primary, with the user's name or number, and no other members."""
    import grp  # an opening seldom needs it, and has to be quick

    try:
        user, found = pwd.getpwuid(owner), grp.getgrgid(group)
    except KeyError:  # as in a container without those files
        return owner == group
    private = user.pw_gid == group and (found.gr_name == user.pw_name or owner == group)
    return private and set(found.gr_mem) <= {user.pw_name}


def _is_unmapped(user: int) -> bool:
    """Return whether a user is outside this user namespace, as the host's root is in a rootless container."""
    try:
        with open("/proc/sys/kernel/overflowuid") as overflow, open("/proc/self/uid_map") as ranges:  # noqa: PTH123
            return user == int(overflow.read()) and ranges.readline().split() != _WHOLE_RANGE
    except (OSError, ValueError):
        return False


def _refuse(file: Named, why: str, remedy: str) -> UntrustedFileError:
    return UntrustedFileError(f"{printable(file.name)}: {why} ({remedy})")


def _not_alone(
    file: Named, store: Named | None, why: str, remedy: str
) -> NotAStoreError | UntrustedFileError:
    """Return the error for a file that also has another name, with other companions beside it."""
    kind = NotAStoreError if file is store else UntrustedFileError
    return kind(f"{printable(file.name)}: {why}, apart from its -wal and -lock files ({remedy})")


def _described(file: Named) -> str:
    return f"mode {stat.S_IMODE(file.status.st_mode):04o}, owner {user_name(file.status.st_uid)}"


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _quoted(file: Named) -> str:
    import shlex

    return shlex.quote(printable(file.name))
