"""What the package's own modules do with a Reader beyond the public API.

Apart from `internals`, which writes, because a server that answers needs none of what a writer imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import queries, status

if TYPE_CHECKING:
    from imagekeep.image import Image
    from imagekeep.reader import Reader
    from imagekeep.watcher_status import FilesystemUsage


def data_version(reader: Reader) -> int:
    """Return a number that changes when the store does, seen from this thread (SQLite: PRAGMA data_version).

    An answer read after it is valid until it changes. It changes after a fork too, and if the store is replaced.
    """
    return reader._connections.data_version()


def incarnation(reader: Reader) -> object:
    """Return a value that changes if the path names another store, moved there or restored."""
    return reader._connections.incarnation()


def require_current_schema(reader: Reader) -> None:
    """Raise SchemaVersionError if another process has migrated the store."""
    reader._connections.require_current_schema()


def local_resolve(reader: Reader, reference_or_id: str) -> Image:
    """Return the image of a full id, else of a reference in any spelling, else of a truncated id.

    Unlike `Reader.find` it normalizes a reference first (containerd: internal/cri/server/images, LocalResolve).
    Raises as `Reader.get` does.
    """
    return reader._connections.ask(queries.find_by_any_name, reference_or_id)


def image_filesystem(reader: Reader) -> FilesystemUsage | None:
    """Return what the source last reported about the filesystem of its images, or None."""
    return reader._connections.ask(status.image_filesystem)
