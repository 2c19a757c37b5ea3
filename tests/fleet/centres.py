"""A centre under test: its owner's connection, and its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from imagekeep.fleet.administration import enroll

if TYPE_CHECKING:
    from imagekeep.fleet.connection import Connection
    from tests.fleet.server import Server


@dataclass
class Centre:
    """A migrated database of a server."""

    server: Server
    database: str
    connection: Connection

    @property
    def url(self) -> str:
        """Return the URL for its owner."""
        return self.server.url(self.database)

    def enroll(self, node: str) -> dict[str, str]:
        """Enroll a node; return its connection parameters, over TLS."""
        role, password = enroll(self.connection, node)
        assert password
        return self.server.tls(self.database, role) | {"password": password}

    def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the owner."""
        rows: list[tuple[Any, ...]] = self.connection.execute(sql, arguments).fetchall()
        return rows

    def one(self, sql: str, *arguments: object) -> Any:
        """Return the only value of a query of the owner."""
        [(value,)] = self.rows(sql, *arguments)
        return value

    def as_role(self, role: str) -> Connection:
        """Return a connection whose session user is a role, as if it had logged in."""
        connection = psycopg.connect(self.url, autocommit=True)
        connection.execute(f'SET SESSION AUTHORIZATION "{role}"')
        return connection


def log_in(parameters: dict[str, str]) -> Connection:
    """Return a connection with these parameters, in autocommit mode."""
    options: dict[str, Any] = {"autocommit": True, **parameters}
    return psycopg.connect(**options)
