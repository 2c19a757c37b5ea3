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
    """Copy the store to a new file, and print the file's name.

    By default that is beside the store, named after the revision and the time. The copy is one state of the
    store, whatever is written meanwhile. `imagekeep db restore` puts it back.
    """
    with reading(settings.path) as (_, revision):
        default = backup_path(settings.path, revision)
    copy(settings.path, Path(file) if file else default)


@command("imagekeep db restore yesterday.db")
@click.argument("file")
@click.pass_obj
def restore(settings: Settings, file: str) -> None:
    """Put a copy into the store's place, and keep the store as it was.

    That happens in one step, also for programs that have the store open; none has to be stopped. The name of the
    copy that is kept is printed. Do not copy the file over the store yourself: what the old -wal file holds
    would be read into it.

    The store then says what it said when the copy was made. `imagekeep sync` brings what has changed since; a
    watcher, which hears of changes only as they happen, does so when it next compares all, within ten minutes.
    """
    kept = restore_store(settings.path, Path(file))
    write_line(f"restored {printable(file)}")
    if kept:
        write_line(f"copy from before: {kept}")
    warn("what has changed since that copy is missing until `imagekeep sync`")


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
