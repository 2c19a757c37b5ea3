"""SQLAlchemy engines over connections that `connect` opens, for migrations and for users' own queries."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from imagekeep.database import statements
from imagekeep.database.driver import DRIVER_ERRORS, sqlite, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def make_engine(creator: Callable[[], sqlite.Connection], *, read_only: bool = False) -> Engine:
    """Return an engine over the connections that `creator` opens; each transaction begins as BEGIN IMMEDIATE.

    A transaction that begins deferred and writes later fails with "locked", whatever the timeout, if another has
    committed in between. With `read_only` a transaction is one snapshot.
    """
    engine = create_engine("sqlite://", creator=creator, module=sqlite, poolclass=NullPool)
    event.listen(engine, "begin", _begin if read_only else _begin_immediate)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(statements.BEGIN)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql(statements.BEGIN_IMMEDIATE)


@contextlib.contextmanager
def translating_writes(path: Path) -> Iterator[None]:
    """Raise SQLite's errors, SQLAlchemy's wrapping removed, as imagekeep's, which name the file."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error, path) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite.Error):
            raise translate(error.orig, path) from error
        raise
