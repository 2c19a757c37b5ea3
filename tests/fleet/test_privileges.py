"""A node's role: it runs the functions whose names end in _v1, and reaches nothing else of any schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from tests.fleet.centres import log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.fleet.connection import Connection
    from tests.fleet.centres import Centre

ALLOWED = {"facts_v1", "hash_v1", "hello_v1", "incomplete_v1", "receive_v1", "snapshot_v1"}

FUNCTIONS = """
SELECT n.nspname, p.proname, has_function_privilege(%s, p.oid, 'EXECUTE')
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

RELATIONS = """
SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

SEQUENCES = """
SELECT c.oid::regclass FROM pg_class AS c WHERE c.relkind = 'S'
    AND (has_sequence_privilege(%s, c.oid, 'USAGE') OR has_sequence_privilege(%s, c.oid, 'SELECT'))
"""


@pytest.fixture
def role(centre: Centre) -> str:
    """The role of an enrolled node."""
    return centre.enroll("a")["user"]


@pytest.fixture
def node(centre: Centre, role: str) -> Iterator[Connection]:
    """A connection of a node's role."""
    with centre.as_role(role) as connection:
        yield connection


def test_a_node_may_run_the_protocol_and_no_other_function(centre: Centre, role: str) -> None:
    found = centre.rows(FUNCTIONS, role)
    assert {name for _, name, may in found if may} == ALLOWED
    assert len(found) > len(ALLOWED) + 10


def test_a_function_that_is_added_later_is_not_a_nodes_to_run(centre: Centre, role: str) -> None:
    centre.connection.execute("CREATE FUNCTION fleet.later() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    centre.connection.execute("CREATE FUNCTION public.later() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    assert {name for _, name, may in centre.rows(FUNCTIONS, role) if may} == ALLOWED


def test_a_node_cannot_read_or_change_any_table_or_view(centre: Centre, node: Connection) -> None:
    relations = centre.rows(RELATIONS)
    assert len(relations) > 20
    for schema, name in relations:
        target = sql.Identifier(schema, name)
        for statement in (
            "SELECT FROM {}", "DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES",
            "DROP TABLE {}",
        ):  # fmt: skip
            with pytest.raises(psycopg.Error) as refused:
                node.execute(sql.SQL(statement).format(target))
            # 42809: DROP TABLE names a view. 55000: nobody can change the view.
            assert refused.value.sqlstate in ("42501", "42809", "55000"), (statement, schema, name)


def test_a_node_cannot_use_any_sequence(centre: Centre, role: str) -> None:
    assert centre.rows(SEQUENCES, role, role) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE t ()",
        "CREATE TABLE public.t ()",
        "CREATE TABLE fleet.t ()",
        "CREATE SCHEMA s",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_advisory_lock(1768776043, 0)",
        "SELECT pg_try_advisory_xact_lock_shared(1768776044)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT rolpassword FROM pg_authid",
        "SELECT fleet.setting('rows_per_call')",
        "SELECT fleet.enroll('b', 'c')",
        "ALTER DATABASE postgres SET work_mem = '1MB'",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE imagekeep_reader",
        "CREATE ROLE another",
    ],
)
def test_a_node_is_refused(centre: Centre, role: str, statement: str) -> None:
    parameters = centre.enroll("b")
    with log_in(parameters) as logged_in, pytest.raises(psycopg.Error) as refused:
        logged_in.execute(statement)
    assert refused.value.sqlstate == "42501"


def test_a_node_has_at_most_two_connections(centre: Centre) -> None:
    parameters = centre.enroll("a")
    too_many = pytest.raises(psycopg.OperationalError, match="too many connections")
    with log_in(parameters), log_in(parameters), too_many:
        log_in(parameters)


def test_the_server_has_only_the_verifier_of_a_password(centre: Centre) -> None:
    parameters = centre.enroll("a")
    verifier = centre.one("SELECT rolpassword FROM pg_authid WHERE rolname = %s", parameters["user"])
    assert verifier.startswith("SCRAM-SHA-256$")


def test_a_wrong_password_and_no_tls_are_refused(centre: Centre) -> None:
    parameters = centre.enroll("a")
    for change in ({"password": "wrong"}, {"sslmode": "disable"}):
        with pytest.raises(psycopg.OperationalError):
            log_in(parameters | change)


def test_a_certificate_logs_a_node_in_without_a_password(centre: Centre) -> None:
    centre.connection.execute("CREATE ROLE imagekeep_by_certificate LOGIN IN ROLE imagekeep_node")
    centre.connection.execute("SELECT fleet.enroll('c', 'imagekeep_by_certificate')")
    tls = centre.server.directory / "tls"
    own = {"sslcert": str(tls / "node.crt"), "sslkey": str(tls / "node.key")}
    parameters = centre.server.tls(centre.database, "imagekeep_by_certificate")
    try:
        with log_in(parameters | own) as connection:
            assert connection.execute("SELECT session_user").fetchone() == ("imagekeep_by_certificate",)
        with pytest.raises(psycopg.OperationalError):
            log_in(parameters)
    finally:
        centre.connection.execute("DROP ROLE imagekeep_by_certificate")


def test_a_reader_reads_the_views_and_nothing_else(centre: Centre) -> None:
    centre.connection.execute("CREATE ROLE grafana IN ROLE imagekeep_reader")
    try:
        with centre.as_role("grafana") as reader:
            views = centre.rows("SELECT viewname FROM pg_views WHERE schemaname = 'fleet'")
            for (view,) in views:
                reader.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("fleet", view)))
            reader.execute("SELECT * FROM fleet.node_references_at('a', now())")
            for table in ("nodes", "current_references", "settings"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier("fleet", table)))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("SELECT fleet.hash_v1(0, 0, NULL, NULL)")
    finally:
        centre.connection.execute("DROP ROLE grafana")
