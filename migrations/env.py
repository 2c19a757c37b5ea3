"""Runs the revisions in imagekeep's own transaction, with its lock, backup and checks.

`imagekeep db migrate` runs this; so does `alembic -x store=PATH upgrade head` in a checkout, or with IMAGEKEEP_STORE.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from alembic import command, context
from alembic.util import CommandError

from imagekeep import schema
from imagekeep.database import create, migrate
from imagekeep.database.connection import connect
from imagekeep.database.engine import make_engine
from imagekeep.database.revision import exists
from imagekeep.errors import ImagekeepError, printable


def store_path() -> Path:
    """Return the file that the command line or the environment names."""
    named = context.get_x_argument(as_dictionary=True).get("store") or os.environ.get("IMAGEKEEP_STORE")
    if not named:
        raise CommandError("which store? give -x store=PATH before the command, or set IMAGEKEEP_STORE")
    return Path(named)


def look(path: Path) -> None:
    """Compare a store with the revisions, for a command that moves nothing."""
    if not exists(path):
        raise CommandError(
            f"no store at {printable(path)}; `alembic upgrade head` or `imagekeep sync` makes one"
        )
    create.read_revision(path)  # refuses another program's file
    with closing(connect(path, read_only=True)) as driver:
        engine = make_engine(lambda: driver, read_only=True)
        with engine.connect() as connection:
            context.configure(connection=connection, target_metadata=schema.metadata)
            context.run_migrations()


def move(migration: migrate.Migration, destination: str | None) -> None:
    """Move a store up or down, and say where its backup is."""
    create.make_file(migration.path)
    with migrate.migration_transaction(migration, destination) as connection:
        context.configure(connection=connection, target_metadata=schema.metadata)
        context.run_migrations()
    if migration.backup is not None and "migration" not in context.config.attributes:
        context.config.print_stdout("backup: %s", printable(migration.backup, 4096))


def run() -> None:
    """Do what the command is for."""
    migration = context.config.attributes.get("migration") or migrate.Migration(store_path())
    try:
        destination = context.get_revision_argument()
    except KeyError:  # a command that goes nowhere
        look(migration.path)
        return
    options = context.config.cmd_opts
    if isinstance(destination, tuple) or (options is not None and options.cmd[0] is command.stamp):
        raise CommandError("a store has one revision, and only upgrade and downgrade may change it")
    move(migration, destination)


if context.is_offline_mode():
    raise CommandError("imagekeep's migrations need the store's file: there is no --sql mode")
try:
    run()
except ImagekeepError as error:
    if "migration" in context.config.attributes:
        raise
    raise CommandError(str(error)) from error
