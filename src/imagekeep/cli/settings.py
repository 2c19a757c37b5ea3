"""What the options before the command say: which store, which source, which platform."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from imagekeep.database.revision import exists
from imagekeep.errors import SourceMismatchError, StoreUnavailableError, printable
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from imagekeep.identity import SourceIdentity

SYSTEM_STORE = Path("/var/lib/imagekeep/images.db")


class Settings(NamedTuple):
    """The options that every command may use; all but `path` are as they were given."""

    path: Path
    source: str | None = None
    base_name: str | None = None
    platform: str | None = None
    namespace: str | None = None

    def open_reader(self) -> Reader:
        """Open the store to read.

        Raises SourceMismatchError if a namespace is given and the store has the images of another one, and as
        Reader.open does.
        """
        require_store(self.path)
        reader = Reader.open(self.path)
        if self.namespace:
            try:
                self.require_namespace(reader.identity().follows)
            except SourceMismatchError:
                reader.close()
                raise
        return reader

    def require_namespace(self, follows: SourceIdentity | None) -> None:
        """Raise SourceMismatchError if a namespace is given and the store follows another one."""
        if self.namespace and follows and follows.namespace and follows.namespace != self.namespace:
            raise SourceMismatchError(
                f"store {printable(self.path)}: has the images of namespace {printable(follows.namespace)}, not "
                f"{printable(self.namespace)}; leave out --namespace, or use another --store"
            )


def require_store(path: Path) -> None:
    """Raise StoreUnavailableError if there is no store at `path`, and NotAStoreError if it cannot be one."""
    if exists(path):
        return
    advice = "`imagekeep --source SPEC sync` creates one"
    if path != SYSTEM_STORE and SYSTEM_STORE.parent.is_dir():  # only root sees what is in the directory
        seen = f"add --store {SYSTEM_STORE}" if os.geteuid() == 0 else "use sudo"
        advice += f"; to see this machine's store, {seen}"
    raise StoreUnavailableError(f"no store at {printable(path)} ({advice})")


def default_store() -> Path:
    """Return the store that is meant where none is named: the system's for root, else the user's.

    The user's is in the XDG user data directory (XDG base directory specification 0.8: a relative XDG_DATA_HOME
    is ignored). Raises click.UsageError for a user without a home directory.
    """
    if os.geteuid() == 0:
        return SYSTEM_STORE
    given = Path(os.environ.get("XDG_DATA_HOME", ""))
    try:
        directory = given if given.is_absolute() else Path.home() / ".local/share"
    except RuntimeError as error:
        message = "you have no home directory; name the store with --store or IMAGEKEEP_STORE"
        raise click.UsageError(message) from error
    return directory / "imagekeep" / "images.db"
