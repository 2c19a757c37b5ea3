"""A centre that lies or stalls: the agent names it, and neither side is left half-written."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from imagekeep import Reader
from imagekeep.errors import CentreBusyError, CentreFaultError, CentreUnavailableError, CentreVersionError
from imagekeep.fleet import connection as connection_module
from imagekeep.fleet import shipment
from imagekeep.fleet.centre import Centre as Client
from imagekeep.fleet.connection import connect
from tests.fleet.nodes import Node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.centres import Centre

HELLO = """
CREATE OR REPLACE FUNCTION fleet.hello_v1(
    p_protocol integer, p_version text, p_revision text, p_store_id text, p_now timestamptz,
    p_sequence bigint, p_row bytea, p_watcher_connected_at timestamptz, p_oldest_verified_at timestamptz,
    OUT epoch integer, OUT sequence bigint, OUT cursor_row bytea, OUT store_id text,
    OUT origin_sequence bigint, OUT origin_row bytea, OUT hash_due boolean, OUT incomplete_hash bytea,
    OUT clock timestamptz)
LANGUAGE plpgsql AS $$ BEGIN {body} END $$
"""
HONEST = "epoch := 0; sequence := 0; hash_due := false;"


@pytest.fixture
def node(centre: Centre, tmp_path: Path) -> Node:
    """A node with some references, not shipped yet."""
    node = Node(tmp_path / "images.db", centre.enroll("a"))
    node.change(5)
    return node


@pytest.mark.parametrize(
    "lie",
    [
        "epoch := -1;",
        "epoch := NULL;",
        "sequence := -5;",
        "sequence := 7;",
        "sequence := 9223372036854775807; cursor_row := 'x';",
        "sequence := 1; cursor_row := repeat('x', 33)::bytea;",
        "hash_due := NULL;",
        "store_id := repeat('x', 101);",
        "incomplete_hash := 'x';",
        "origin_sequence := 1; origin_row := 'x';",
    ],
)
def test_a_greeting_that_cannot_be_is_a_fault(centre: Centre, node: Node, lie: str) -> None:
    centre.connection.execute(HELLO.format(body=HONEST + lie).encode())
    with pytest.raises(CentreFaultError, match="the answer to hello is malformed"):
        node.ship()
    assert centre.rows("SELECT FROM fleet.names") == []


def test_a_greeting_of_many_megabytes_is_a_fault(centre: Centre, node: Node) -> None:
    centre.connection.execute(HELLO.format(body=HONEST + "store_id := repeat('x', 50000000);").encode())
    with pytest.raises(CentreFaultError):
        node.ship()


def test_a_centre_whose_state_never_agrees_is_a_fault(centre: Centre, node: Node) -> None:
    centre.connection.execute(
        "CREATE OR REPLACE FUNCTION fleet.hash_of_state(p_node integer) RETURNS bytea "
        "LANGUAGE sql STABLE AS $$ SELECT '\\x00'::bytea $$"
    )
    with pytest.raises(CentreFaultError, match="differs right after it was sent"):
        node.ship()


def test_a_centre_that_wants_too_many_facts_is_a_fault(centre: Centre, node: Node) -> None:
    centre.connection.execute(
        "CREATE OR REPLACE FUNCTION fleet.lacking(p_node integer, p_ids text[]) RETURNS text[] "
        "LANGUAGE sql STABLE AS $$ SELECT array_fill('x'::text, ARRAY[1001]) $$"
    )
    with pytest.raises(CentreFaultError, match="the wanted ids"):
        node.ship()


def test_a_call_that_stalls_ends_at_its_time_limit(centre: Centre, node: Node) -> None:
    centre.connection.execute(HELLO.format(body="PERFORM pg_sleep(600);").encode())
    began = time.monotonic()
    with (
        connect(node.parameters) as connection,
        Reader.open(node.path) as reader,
        pytest.raises(CentreUnavailableError, match=r"did not answer within 0\.2 s"),
    ):
        shipment.ship(reader, Client(connection, "centre", 0.2), "1")
    assert time.monotonic() - began < 60


def test_a_server_that_never_answers_ends_at_the_connect_timeout(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        node.parameters["port"] = str(silent.getsockname()[1])
        with pytest.raises(CentreUnavailableError):
            node.ship()


def test_another_certificate_authority_is_refused(centre: Centre, node: Node, tmp_path: Path) -> None:
    node.parameters["sslrootcert"] = str(centre.server.directory / "tls" / "node.crt")
    with pytest.raises(CentreUnavailableError, match="certificate verify failed"):
        node.ship()


def test_a_centre_without_the_protocol_is_named(centre: Centre, node: Node) -> None:
    centre.connection.execute("ALTER FUNCTION fleet.hello_v1 RENAME TO hello_v9")
    with pytest.raises(CentreVersionError, match="run `imagekeep fleet migrate`"):
        node.ship()


def test_snapshots_pass_a_limit(centre: Centre, node: Node) -> None:
    centre.connection.execute("UPDATE fleet.settings SET value = 1 WHERE name = 'snapshots_at_once'")
    with centre.connection.transaction():
        centre.connection.execute("SELECT pg_advisory_xact_lock(1768776043, 0)")
        with pytest.raises(CentreBusyError):
            node.ship()
    node.ship()
    assert centre.one("SELECT epoch FROM fleet.nodes") == 1
