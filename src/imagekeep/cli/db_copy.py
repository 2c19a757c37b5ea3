"""`imagekeep db backup` and `imagekeep db export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.output import write_line
from imagekeep.cli.store_file import reading
from imagekeep.database.copy import backup_path, copy_store

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings


@command("imagekeep db backup", "imagekeep db backup before-upgrade.db")
@click.argument("file", required=False)
@click.pass_obj
def back_up(settings: Settings, file: str | None) -> None:
    """Copy the store to a new file, and print the file's name.

    By default that is beside the store, named after the revision and the time. The copy is one state of the
    store, whatever is written meanwhile.

    To restore it, put it in the store's place while nothing uses that, and remove the store's -wal and -shm
    files: they belong to the file that was there, and would be read into the copy.
    """
    with reading(settings.path) as (_, revision):
        default = backup_path(settings.path, revision or "base")
    copy(settings.path, Path(file) if file else default)


@command("imagekeep db export images-of-this-node.db")
@click.argument("file")
@click.pass_obj
def export(settings: Settings, file: str) -> None:
    """Copy the store to a new file that needs no write access.

    The file's name is printed. Whoever may not write beside a live store cannot read it; this copy is read
    from anywhere, by `sqlite3` or as a store. It holds every config, so it begins as readable by you alone.
    """
    with reading(settings.path):
        pass
    copy(settings.path, Path(file))


def copy(path: Path, destination: Path) -> None:
    """Copy the store, and print where to; raises as `copy_store` does."""
    copy_store(path, destination)
    write_line(str(destination))
