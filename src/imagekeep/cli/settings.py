"""The global options, and the store that they name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from imagekeep.database.connection import connect
from imagekeep.database.driver import translating
from imagekeep.database.revision import exists, find_revision
from imagekeep.database.statements import BEGIN
from imagekeep.errors import NotFoundError, SourceMismatchError, StoreUnavailableError, printable
from imagekeep.platform import ALL_PLATFORMS, name_of
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.identity import SourceIdentity

SYSTEM_STORE = Path("/var/lib/imagekeep/images.db")


class Settings(NamedTuple):
    """The values of the global options, unparsed except `path`."""

    path: Path
    source: str | None = None
    base_name: str | None = None
    platforms: tuple[str, ...] = ()
    namespace: str | None = None

    def open_reader(self) -> Reader:
        """Open the store for reading, for the first of the platforms if any are given.

        Raises as `require_namespace`, `require_store` and `Reader.open` do, and NotFoundError if the store does not
        keep one of them.
        """
        require_store(self.path)
        named = [each for each in self.platforms if each != ALL_PLATFORMS]
        reader = Reader.open(self.path, platform=named[0] if named else None)
        if named or self.namespace:
            identity = reader.identity()
            try:
                self.require_namespace(identity.follows)
                for platform in named:
                    self._require_platform(platform, identity.platforms)
            except (SourceMismatchError, NotFoundError):
                reader.close()
                raise
        return reader

    def asked_platforms(self, reader: Reader) -> Sequence[str | None]:
        """Return the names of all platforms that are asked about; None is the store's first, the default."""
        if ALL_PLATFORMS in self.platforms:
            return [name for name in reader.kept_platforms() if name != ALL_PLATFORMS] or [None]
        return [name_of(platform) for platform in self.platforms] or [None]

    def _require_platform(self, platform: str, kept: Collection[str]) -> None:
        """Raise NotFoundError, naming those that it keeps, for a platform that the store does not keep."""
        if name_of(platform) not in kept:
            raise NotFoundError(
                f"store {printable(self.path)}: keeps {printable(', '.join(kept) or 'no platform yet')}, not "
                f"{printable(platform)} (add it with `sync --platform`)"
            )

    def require_namespace(self, follows: SourceIdentity | None) -> None:
        """Raise SourceMismatchError if a namespace is given and the store follows another one."""
        if self.namespace and follows and follows.namespace and follows.namespace != self.namespace:
            raise SourceMismatchError(
                f"store {printable(self.path)}: follows namespace {printable(follows.namespace)!r}, not "
                f"{printable(self.namespace)!r} (omit --namespace, or use another --store)"
            )


def require_store(path: Path) -> None:
    """Raise StoreUnavailableError if `path` does not exist, and NotAStoreError if it cannot be a store."""
    if exists(path):
        return
    advice = "`imagekeep --source SPEC sync` creates one"
    if path != SYSTEM_STORE and SYSTEM_STORE.parent.is_dir():  # only root sees what is in the directory
        seen = f"add --store {SYSTEM_STORE}" if os.geteuid() == 0 else "use sudo"
        advice += f"; to see this machine's store, {seen}"
    raise StoreUnavailableError(f"no store at {printable(path)} ({advice})")


def default_store() -> Path:
    """Return the default store: the system's for root, else one in the user's data directory.

    A relative XDG_DATA_HOME is ignored (XDG Base Directory Specification 0.8). Raises click.UsageError for a user
    without a home directory.
    """
    if os.geteuid() == 0:
        return SYSTEM_STORE
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    try:
        directory = given if given.is_absolute() else Path.home() / ".local/share"
    except RuntimeError as error:
        raise click.UsageError("no home directory (set --store or IMAGEKEEP_STORE)") from error
    return directory / "imagekeep" / "images.db"


@contextlib.contextmanager
def read_store(path: Path) -> Iterator[tuple[sqlite.Connection, str | None]]:
    """Yield a connection in one read transaction, and the schema's revision or None; any revision is accepted.

    Raises as `require_store` and `find_revision` do, and SQLite's errors as imagekeep's.
    """
    require_store(path)
    with translating(path), contextlib.closing(connect(path, read_only=True)) as connection:
        connection.execute(BEGIN)
        yield connection, find_revision(connection.cursor(), path)
