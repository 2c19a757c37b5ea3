"""Fixtures: a PostgreSQL for all tests of a worker, and a migrated database for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from imagekeep.fleet.administration import migrate
from tests.fleet.centres import Centre
from tests.fleet.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fleet.server import Server

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL without fsync; tests use databases of their own."""
    with running() as server:
        yield server


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """The name of an empty database."""
    name = f"fleet_{next(_NUMBERS)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def centre(server: Server, database: str) -> Iterator[Centre]:
    """A migrated centre, with a connection of its owner."""
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        migrate(connection)
        yield Centre(server, database, connection)
