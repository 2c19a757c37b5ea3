"""Makes and changes a fleet's centre: its schema, its nodes and their roles."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from imagekeep.errors import (
    CentreVersionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    from_os_error,
    printable,
)
from imagekeep.fleet import statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection as Bound

    from imagekeep.fleet.connection import Connection

HEAD = "0001"
"""The newest revision of the centre's schema."""

POSTGRESQL_LEAST = 150_000
"""PostgreSQL 15, the first with UNIQUE NULLS NOT DISTINCT."""

PARTITIONS_AHEAD = 3
"""Months for which partitions of the past are made ahead."""

CONNECTIONS_OF_A_NODE = 2
"""One for a shipment, and one for the next while the server still ends a lost one."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did: the revisions before and after, and the partitions made."""

    before: str | None
    after: str | None
    partitions: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much a prune deleted."""

    ranges: int
    pointings: int
    names: int
    images: int


def migrate(connection: Connection, destination: str = HEAD) -> Migrated:
    """Migrate the centre's schema in one transaction, and make the partitions of the next months.

    Raises CentreVersionError for a server or a schema that this release does not know.
    """
    _require_server(connection)
    with _by_sqlalchemy(connection) as bound:
        connection.execute(statements.LOCK_MIGRATION)
        connection.execute(statements.MAKE_SCHEMA)
        before = revision(connection)
        if before is not None and before > HEAD:
            raise CentreVersionError(f"the centre's schema {printable(before)} is newer (upgrade imagekeep)")
        _run_revisions(bound, destination)
        after = revision(connection)
        made = (
            connection.execute(statements.MAKE_PARTITIONS, (PARTITIONS_AHEAD,)).fetchone() if after else None
        )
    return Migrated(before, after, made[0] if made else 0)


def revision(connection: Connection) -> str | None:
    """Return the revision of the centre's schema, or None if there is none."""
    exists = connection.execute("SELECT to_regclass('fleet.alembic_version') IS NOT NULL").fetchone()
    if not exists or not exists[0]:
        return None
    row = connection.execute(statements.REVISION).fetchone()
    return str(row[0]) if row else None


def enroll(connection: Connection, node: str, *, password: bool = True) -> tuple[str, str | None]:
    """Give a node a new role that can ship, and drop its former one; return the role and its password.

    The password is made here and only its SCRAM verifier reaches the server. Without one, the role can log in by
    what pg_hba.conf asks for, such as a client certificate for its name.
    """
    _require_node_name(node)
    role = f"imagekeep_node_{secrets.token_hex(6)}"
    secret = secrets.token_urlsafe(32) if password else None
    with connection.transaction():
        connection.execute(_create_role(connection, role, secret))
        before = connection.execute(statements.ENROLL, (node, role)).fetchone()
        if before and before[0]:
            _drop_role(connection, before[0])
    return role, secret


def enroll_with_file(
    connection: Connection, node: str, path: Path, shared: dict[str, str], certificate: dict[str, str]
) -> str:
    """Enroll a node and write its credentials to a new file, or do neither; return the role.

    `shared` are the connection parameters for nodes, and `certificate` the node's sslcert and sslkey, if any.
    """
    with connection.transaction():
        role, password = enroll(connection, node, password=not certificate)
        secret = {"password": password} if password else certificate
        write_credentials(path, shared | {"user": role} | secret)
    return role


def revoke(connection: Connection, node: str) -> None:
    """Drop a node's role, and end what it was known to have; its past stays. Raises NotFoundError."""
    _end_sessions(connection, node)
    with connection.transaction():
        row = connection.execute(statements.REVOKE, (node,)).fetchone()
        if row is None or row[0] is None:
            raise NotFoundError(f"no such node: {printable(node)}")
        _drop_role(connection, row[0])


def prune(connection: Connection, before: datetime) -> Pruned:
    """Delete the past that ended before a time, and what nothing mentions; make the next months' partitions."""
    with connection.transaction():
        row = connection.execute(statements.PRUNE, (before,)).fetchone()
        connection.execute(statements.MAKE_PARTITIONS, (PARTITIONS_AHEAD,))
    return Pruned(*row) if row else Pruned(0, 0, 0, 0)


def write_credentials(path: Path, parameters: dict[str, str]) -> None:
    """Write connection parameters to a new file that only its owner can read.

    Raises InvalidArgumentError if it exists, and PermissionDeniedError or UnavailableError if it cannot be made.
    """
    lines = [f"{key} = {value}\n" for key, value in parameters.items()]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise InvalidArgumentError(f"{printable(path)} already exists; choose another name") from None
    except OSError as error:
        raise from_os_error(error, printable(path), UnavailableError) from error
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
        file.write("# For `imagekeep ship --credentials`; keep it secret.\n")
        file.writelines(lines)


def _require_server(connection: Connection) -> None:
    row = connection.execute(statements.ENCODING).fetchone()
    encoding, version = row or ("", 0)
    if encoding != "UTF8" or version < POSTGRESQL_LEAST:
        raise CentreVersionError(
            f"the centre must be PostgreSQL 15 or later with encoding UTF8, not {version // 10_000} with {encoding}"
        )


def _require_node_name(node: str) -> None:
    if (
        not node
        or len(node.encode("utf-8", "replace")) > 253
        or not node.isprintable()
        or node.strip() != node
    ):
        raise InvalidArgumentError(f"node {printable(node)}: give a host name of at most 253 characters")


@contextlib.contextmanager
def _by_sqlalchemy(connection: Connection) -> Iterator[Bound]:
    """Yield SQLAlchemy's view of a connection in one transaction, which this connection shares."""
    connection.autocommit = False
    try:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connection,
            poolclass=StaticPool,
            pool_reset_on_return=None,
        )
        with engine.connect() as bound, bound.begin():
            yield bound
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        if not connection.closed:
            connection.rollback()
            connection.autocommit = True


def _run_revisions(bound: Bound, destination: str) -> None:
    """Run alembic's revisions up, or down to `base`, inside the caller's transaction."""
    with _scripts() as config:
        config.attributes["connection"] = bound
        (command.downgrade if destination == "base" else command.upgrade)(config, destination)


@contextlib.contextmanager
def _scripts() -> Iterator[Config]:
    """Yield alembic's configuration for the centre's revisions."""
    with as_file(files("imagekeep.fleet.migrations")) as directory:
        config = Config()
        config.set_main_option("script_location", str(directory).replace("%", "%%"))
        yield config


def newest_revision() -> str | None:
    """Return the newest revision among the files of this release; a test compares it with HEAD."""
    with _scripts() as config:
        return ScriptDirectory.from_config(config).get_current_head()


def _create_role(connection: Connection, role: str, secret: str | None) -> sql.Composed:
    """Return the statement that makes a node's role; the server gets the password's verifier only."""
    options: list[sql.Composable] = [
        sql.SQL(f"CONNECTION LIMIT {CONNECTIONS_OF_A_NODE} IN ROLE imagekeep_node")
    ]
    if secret is not None:
        verifier = connection.pgconn.encrypt_password(secret.encode(), role.encode(), b"scram-sha-256")
        options.append(sql.SQL("PASSWORD {}").format(sql.Literal(verifier.decode())))
    return sql.SQL("CREATE ROLE {} LOGIN {}").format(sql.Identifier(role), sql.SQL(" ").join(options))


def _end_sessions(connection: Connection, node: str) -> None:
    """Keep a node from logging in and end its sessions, which may hold locks for as long as they like."""
    row = connection.execute(statements.ROLE_OF_NODE, (node,)).fetchone()
    if row:
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(row[0])))
        connection.execute(statements.END_SESSIONS, (row[0],))


def _drop_role(connection: Connection, role: str) -> None:
    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
