"""Files that only their owner may use: a config's environment may hold secrets."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MODE = 0o600
DIRECTORY_MODE = 0o700


def create_private(path: Path | str) -> int:
    """Make a file of mode 0600, whatever the umask takes away, and return its descriptor, open to read and write.

    Raises FileExistsError where there is anything of that name, and as `os.open` does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    os.fchmod(descriptor, MODE)
    return descriptor


def make_private_directories(directory: Path) -> list[Path]:
    """Make a directory and those above it that do not exist, each of mode 0700, and return those that were made.

    The umask does not matter. Raises as `os.mkdir` does.
    """
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    made = []
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another may make it first
            each.mkdir(DIRECTORY_MODE)
            _set_mode(each)
            made.append(each)
    return made


def _set_mode(directory: Path) -> None:
    """Give back what the umask has taken away; not by name, which may be another's link by now."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        Path(f"/proc/self/fd/{descriptor}").chmod(DIRECTORY_MODE)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
