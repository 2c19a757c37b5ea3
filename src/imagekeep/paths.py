"""Paths that go on meaning the same file."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from imagekeep.errors import InvalidArgumentError, UnavailableError, printable


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
    name = os.fspath(path)
    if name in ("", ":memory:") or name.startswith("file://"):
        raise InvalidArgumentError(
            f"store {printable(name)}: not the path of a file, through which threads and processes share a store "
            "(give a path)"
        )
    return full_path(path)


def grpc_address(socket: str | os.PathLike[str]) -> str:
    """Return the name by which gRPC connects to or serves at an absolute path, of any bytes.

    What follows `unix:` is a URI's path: a `//` at its beginning would name a host.
    """
    return f"unix:/{quote(os.fsencode(socket).lstrip(b'/'))}"
