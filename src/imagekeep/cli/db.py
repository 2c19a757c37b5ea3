"""`imagekeep db check`, `migrate`, `backup`, `restore` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.formats import counted, format_time
from imagekeep.cli.output import print_message, write_line
from imagekeep.cli.settings import read_store, require_store
from imagekeep.cli.times import parse_age
from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.check import find_others, find_problems
from imagekeep.database.queries import count
from imagekeep.database.restore import restore_store
from imagekeep.database.revision import require_head
from imagekeep.errors import CorruptStoreError, printable
from imagekeep.times import from_microseconds, timestamp

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.database.migrate import Migration


@command("imagekeep db check")
@click.pass_obj
def check_store(settings: Settings) -> None:
    """Check the store's invariants and report every violation.

    The check needs no source: an image's id is the digest of its stored config. The exit code is 125 if the store
    is damaged. Tables, indexes and views that imagekeep did not create are listed but are not errors.
    """
    with read_store(settings.path) as (connection, revision):
        require_head(revision, settings.path)
        broken = 0
        for problem in find_problems(connection):
            write_line(str(problem))
            broken += 1
        if broken:
            store = printable(settings.path)
            raise CorruptStoreError(f"store {store}: {counted(broken, 'broken invariant')}")
        for other in find_others(connection):
            write_line(f"note: {printable(other)} was not created by imagekeep")
        counts = count(connection.cursor())
    write_line(
        f"ok: {counted(counts.images, 'image')}, {counted(counts.references, 'reference')}, "
        f"{counted(counts.pinned_refs, 'pinned reference')}"
    )


@command("imagekeep db migrate --dry-run", "imagekeep db migrate")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.pass_obj
def migrate_store(settings: Settings, dry_run: bool) -> None:
    """Migrate the store to this release's schema.

    The store is backed up first, and the path of the backup is printed. If the migration fails, the store is
    unchanged.
    """
    # Imported here because no other command needs alembic.
    from imagekeep.database.migrate import migrate

    require_store(settings.path)
    for line in _describe_migration(migrate(settings.path, dry_run=dry_run)):
        write_line(line)


def _describe_migration(migration: Migration) -> list[str]:
    if migration.before == migration.after:
        return [f"nothing to do: the schema is at revision {migration.after}"]
    move = f"from revision {migration.before or 'base'} to {migration.after}"
    if migration.dry_run:
        return [f"dry run: would migrate {move}; nothing was changed"]
    return [f"migrated {move}", *([f"backup: {migration.backup}"] if migration.backup else [])]


@command(
    "imagekeep db prune-history --older-than 90d --dry-run",
    "imagekeep db prune-history --older-than 90d",
)
@click.option("--older-than", metavar="AGE", required=True, callback=parse_age, help="For example 90d.")
@click.option("--keep-last", is_flag=True, help="Keep the last change of references that have vanished.")
@click.option("--dry-run", is_flag=True, help="Show how many changes would be removed; change nothing.")
@click.pass_obj
def prune_history(settings: Settings, older_than: int, keep_last: bool, dry_run: bool) -> None:
    """Remove old changes from the history.

    What each reference was at that time stays, so that every later time can still be asked about, and the store
    remembers what was removed. Nothing else removes a change. To return the space to the file system, back up and
    restore the store.
    """
    # Imported here because the other commands of this module write to no store.
    from imagekeep.store import Store

    require_store(settings.path)
    before = from_microseconds(timestamp() - older_than)
    with Store.open(settings.path) as store:
        removed = store.prune_history(before, keep_last=keep_last, dry_run=dry_run)
    changes = f"{counted(removed, 'change')} before {format_time(before)}"
    write_line(f"dry run: would remove {changes}; nothing was changed" if dry_run else f"removed {changes}")


@command("imagekeep db backup", "imagekeep db backup before-upgrade.db")
@click.argument("file", required=False)
@click.pass_obj
def back_up(settings: Settings, file: str | None) -> None:
    """Back up the store to a new file and print its path.

    Without FILE, the backup is written beside the store and named after the revision and the time. It is a
    consistent snapshot, even if other processes are writing, and is verified. Restore it with `imagekeep db
    restore`.
    """
    with read_store(settings.path) as (_, revision):
        default = backup_path(settings.path, revision)
    _copy(settings.path, Path(file) if file else default)


@command("imagekeep db restore yesterday.db")
@click.argument("file")
@click.pass_obj
def restore(settings: Settings, file: str) -> None:
    """Replace the store with a backup.

    The current store is backed up first, and the path of that backup is printed. The store is replaced in one
    step: programs that have it open can keep running. Do not copy the file over the store yourself: SQLite would
    apply the old -wal file to it.

    The backup is checked first: its pages, and that its tables, views and triggers are imagekeep's. The restored
    store gets a new id. `imagekeep sync` brings it up to date; a watcher does so within ten minutes.
    """
    previous = restore_store(settings.path, Path(file))
    write_line(f"restored {printable(file)}")
    if previous:
        write_line(f"backup of the previous store: {previous}")
    print_message("run `imagekeep sync` to apply changes made since the backup")


@command("imagekeep db export images-of-this-node.db")
@click.argument("file")
@click.pass_obj
def export(settings: Settings, file: str) -> None:
    """Copy the store to a file that can be read without write access.

    The path of the file is printed. To read a live store, SQLite must be able to write beside it; this copy can be
    read from anywhere, with `sqlite3` or as a store. It contains every config, so only its owner can read it at
    first.
    """
    with read_store(settings.path):
        pass
    _copy(settings.path, Path(file))


def _copy(path: Path, destination: Path) -> None:
    copy_store(path, destination)
    write_line(str(destination))
    if destination.stat().st_mode & 0o077:
        print_message(
            "the file system does not store permissions: other users may be able to read this copy and its configs"
        )
