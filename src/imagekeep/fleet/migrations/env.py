"""Runs the revisions of the centre's schema on the connection that `imagekeep fleet migrate` opened."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="fleet")
with context.begin_transaction():
    context.run_migrations()
