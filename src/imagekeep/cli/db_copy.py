"""`imagekeep db backup`, `imagekeep db restore` and `imagekeep db export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.output import warn, write_line
from imagekeep.cli.store_file import reading
from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.restore import restore_store
from imagekeep.errors import printable

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings


@command("imagekeep db backup", "imagekeep db backup before-upgrade.db")
@click.argument("file", required=False)
@click.pass_obj
def back_up(settings: Settings, file: str | None) -> None:
    """Copy the store to a new file, and print its name.

    The default is a file beside the store, named after the revision and the time. The copy is one state of the
    store, whatever is written meanwhile, and is verified before it gets its name. `imagekeep db restore` puts it
    back.
    """
    with reading(settings.path) as (_, revision):
        default = backup_path(settings.path, revision)
    copy(settings.path, Path(file) if file else default)


@command("imagekeep db restore yesterday.db")
@click.argument("file")
@click.pass_obj
def restore(settings: Settings, file: str) -> None:
    """Replace the store with a copy, and back up the store as it was.

    This is one step, also for programs that have the store open; none has to be stopped. The name of the backup is
    printed. Do not copy the file over the store yourself: SQLite would read the old -wal file into it.

    The copy is checked first: its pages, and that each table, view and trigger is imagekeep's. The restored store
    gets a new id. `imagekeep sync` brings what has changed since the copy; a watcher does so when it next compares
    everything, within ten minutes.
    """
    kept = restore_store(settings.path, Path(file))
    write_line(f"restored {printable(file)}")
    if kept:
        write_line(f"copy from before: {kept}")
    warn("changes since that copy are missing until `imagekeep sync`")


@command("imagekeep db export images-of-this-node.db")
@click.argument("file")
@click.pass_obj
def export(settings: Settings, file: str) -> None:
    """Copy the store to a new file that can be read without write access.

    The file's name is printed. Reading a live store takes permission to write beside it; this copy can be read from
    anywhere, by `sqlite3` or as a store. It holds every config, so only you can read it at first.
    """
    with reading(settings.path):
        pass
    copy(settings.path, Path(file))


def copy(path: Path, destination: Path) -> None:
    """Copy the store, and print where to; raises as `copy_store` does."""
    copy_store(path, destination)
    write_line(str(destination))
    if destination.stat().st_mode & 0o077:
        warn(
            "its file system keeps no modes: other users may be able to read this copy, with every config in it"
        )
