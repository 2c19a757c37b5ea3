"""Runs the revisions in imagekeep's own transaction, with its lock, its copy from before and its checks.

From a checkout: `alembic -x store=PATH upgrade head`, or with IMAGEKEEP_STORE set; the same code runs beneath
`imagekeep db migrate`.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from alembic import context
from alembic.util import CommandError

from imagekeep.database import migrate, schema
from imagekeep.database.connection import connect
from imagekeep.database.engine import make_engine
from imagekeep.errors import ImagekeepError


def store_path() -> Path:
    """Return the file that the command line or the environment names."""
    named = context.get_x_argument(as_dictionary=True).get("store") or os.environ.get("IMAGEKEEP_STORE")
    if not named:
        raise CommandError("which store? give -x store=PATH before the command, or set IMAGEKEEP_STORE")
    return Path(named)


def run() -> None:
    """Move the schema, or for `current` and `check` only look at it."""
    given = context.config.attributes.get("migration")
    migration: migrate.Migration = given or migrate.Migration(store_path())
    try:
        destination = context.get_revision_argument()
    except KeyError:  # a command that goes nowhere
        migrate.read_revision(migration.path)  # read-only: another program's file stays as it is
        with closing(connect(migration.path)) as driver, make_engine(lambda: driver).connect() as connection:
            context.configure(connection=connection, target_metadata=schema.metadata)
            context.run_migrations()
        return
    if isinstance(destination, tuple):
        raise CommandError("imagekeep's history has one head: give one revision")
    migrate.make_file(migration.path)
    with migrate.migration_transaction(migration, destination) as connection:
        context.configure(connection=connection, target_metadata=schema.metadata)
        context.run_migrations()


if context.is_offline_mode():
    raise CommandError("imagekeep's migrations need the store's file: there is no --sql mode")
try:
    run()
except ImagekeepError as error:
    if "migration" in context.config.attributes:
        raise
    raise CommandError(str(error)) from error
