"""`imagekeep db migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.output import write_line
from imagekeep.cli.settings import require_store
from imagekeep.database.migrate import migrate

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.database.migrate import Migration


@command("imagekeep db migrate --dry-run", "imagekeep db migrate")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.pass_obj
def migrate_store(settings: Settings, dry_run: bool) -> None:
    """Migrate the store to this release's schema.

    The file is backed up first, and the backup's name is printed. If anything fails, the store is unchanged.
    """
    require_store(settings.path)
    for line in _lines(migrate(settings.path, dry_run=dry_run)):
        write_line(line)


def _lines(migration: Migration) -> list[str]:
    """Return what a migration did, in words."""
    if migration.before == migration.after:
        return [f"nothing to do: the schema is at revision {migration.after}"]
    move = f"from revision {migration.before or 'base'} to {migration.after}"
    if migration.dry_run:
        return [f"dry run: would migrate {move}; nothing was changed"]
    return [f"migrated {move}", *([f"copy from before: {migration.backup}"] if migration.backup else [])]
