"""Paths that go on meaning the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.errors import InvalidArgumentError, UnavailableError, printable

if TYPE_CHECKING:
    import os


def full_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` from the root on, so that it stays that file where the process changes its directory.

    Links are not followed. Raises UnavailableError for a relative one where the process's directory is gone.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError as error:
        raise UnavailableError(
            f"{printable(path)}: the current directory has been removed; change to another, or give a full path"
        ) from error


def store_path(path: str | os.PathLike[str]) -> Path:
    """Return the full path of a store.

    `:memory:` and `file://` mean something to SQLite, and are refused because they would make files of these names.
    Raises InvalidArgumentError, and as `full_path` does.
    """
    if isinstance(path, str) and (path in ("", ":memory:") or path.startswith("file://")):
        raise InvalidArgumentError(f"store {printable(path)}: not the path of a file (give a path)")
    return full_path(path)
