"""Absolute paths of stores and sockets."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from imagekeep.errors import InvalidArgumentError, UnavailableError, printable
from imagekeep.escaping import escape


def full_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path, which stays valid if the process changes its directory.

    Links are not followed. Raises UnavailableError for a relative path if the current directory was removed.
    """
    try:
        return (path if isinstance(path, Path) else Path(path)).absolute()
    except FileNotFoundError as error:
        raise UnavailableError(
            f"{printable(path)}: the current directory has been removed (change to another, or use a full path)"
        ) from error


def store_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a store.

    Raises InvalidArgumentError for SQLite's `:memory:` and `file://`, which would create files of these names, and
    as `full_path` does.
    """
    name = os.fspath(path)
    if name in ("", ":memory:") or name.startswith("file://"):
        raise InvalidArgumentError(
            f"store '{escape(name)}': not the path of a file, and a store is shared through its file (give a path)"
        )
    return full_path(path)


def grpc_address(socket: str | os.PathLike[str]) -> str:
    """Return gRPC's address of an absolute path, of any bytes.

    A URI's path follows `unix:`, so a leading `//` would name a host.
    """
    return f"unix:/{quote(os.fsencode(socket).lstrip(b'/'))}"
