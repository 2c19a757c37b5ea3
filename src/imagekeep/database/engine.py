"""SQLAlchemy over the one way in: for the schema, the migrations and the writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from imagekeep.database.driver import sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


def make_engine(creator: Callable[[], sqlite.Connection]) -> Engine:
    """Return an engine over the connections that `creator` opens; its transactions lock for writing at once.

    A transaction that begins deferred and writes later fails with "locked" whatever the timeout, when another
    has committed in between; so each begins as BEGIN IMMEDIATE.
    """
    engine = create_engine("sqlite://", creator=creator, module=sqlite, poolclass=NullPool)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
