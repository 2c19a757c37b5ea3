"""Malicious agents: large or bad arguments are refused by name, in bounded memory, and harm no other node."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from imagekeep.fleet import statements
from imagekeep.fleet.administration import prune, revoke
from tests.fleet.centres import log_in
from tests.fleet.test_refusals import IMAGE, NOW, ROW, contents, rows, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.fleet.connection import Connection
    from tests.fleet.centres import Centre

LARGE = 12 << 20
"""Bytes of a large argument, more than a call may have. PostgreSQL itself ends a message at 1 GB."""

BINARY, TEXT, TEXT_ARRAY = 1, 25, 1009


@pytest.fixture
def node(centre: Centre) -> Iterator[Connection]:
    """A connection of a node that has shipped an empty state."""
    with log_in(centre.enroll("a")) as connection:
        connection.execute(statements.SNAPSHOT, snapshot())
        yield connection


def hello(**changes: Any) -> list[Any]:
    """Return the arguments of a greeting."""
    given = {"version": "1", "revision": "4", "store": "s", "now": NOW, "sequence": 0, "row": None}
    return [*(given | changes).values(), None, None]


def incomplete(names: list[Any], **changes: Any) -> list[Any]:
    """Return the arguments of incomplete_v1."""
    length = len(names)
    given = {"hash": ROW, "names": names, "errors": ["e"] * length, "since": [NOW] * length}
    return list((given | changes).values())


def peak(process: int) -> int:
    """Return the most bytes of memory that a process has had."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def large_calls() -> dict[str, tuple[str, list[Any]]]:
    """Return calls of every function with one large argument."""
    text, many = "x" * LARGE, [None] * 100_000
    facts = json.dumps([{"id": IMAGE, "layers": [], "os": text}])
    return {
        "hello's version": (statements.HELLO, hello(version=text)),
        "hello's revision": (statements.HELLO, hello(revision=text)),
        "hello's store": (statements.HELLO, hello(store=text)),
        "a name": (statements.RECEIVE, rows(text)),
        "an id": (statements.RECEIVE, rows("a", ids=[text])),
        "a target": (statements.RECEIVE, rows("a", targets=[text])),
        "a target of no reference": (statements.RECEIVE, rows(None, ids=[None], targets=[text])),
        "a last row": (statements.RECEIVE, rows("a", last_row=text.encode())),
        "a cursor": (statements.RECEIVE, rows("a", after_row=text.encode())),
        "sizes": (statements.RECEIVE, rows("a", sizes=many)),
        "rows": (statements.RECEIVE, rows(*many)),
        "a reason": (statements.SNAPSHOT, snapshot(epoch=1, reason=text)),
        "a store": (statements.SNAPSHOT, snapshot(epoch=1, store_id=text)),
        "a name of a snapshot": (statements.SNAPSHOT, snapshot(text, epoch=1)),
        "an origin": (statements.SNAPSHOT, snapshot(epoch=1, origin=1, origin_row=text.encode())),
        "a hash": (statements.HASH, [1, 0, text.encode(), ROW]),
        "facts": (statements.FACTS, [facts]),
        "layers": (statements.FACTS, [json.dumps([{"id": IMAGE, "layers": [1] * (LARGE // 3)}])]),
        "an incomplete reference": (statements.INCOMPLETE, incomplete([text])),
        "an error": (statements.INCOMPLETE, incomplete(["a"], errors=[text])),
        "an incomplete hash": (statements.INCOMPLETE, incomplete(["a"], hash=text.encode())),
    }


def test_a_large_argument_is_refused_in_bounded_memory(centre: Centre, node: Connection) -> None:
    before = contents(centre)
    for name, (statement, arguments) in large_calls().items():
        with pytest.raises(psycopg.Error) as refused:
            node.execute(statement, arguments)
        assert refused.value.sqlstate in ("IK003", "IK005"), name
        assert len(refused.value.diag.message_primary or "") < 500, name
        assert peak(node.info.backend_pid) < 20 * LARGE, name
    assert contents(centre) == before
    assert centre.rows("SELECT FROM fleet.node_incomplete") == []


@pytest.mark.parametrize("value", [b"a\0b", b"\xed\xa0\x80", b"\xff", b"\xf4\x90\x80\x80", b"\xc0\x80"])
def test_text_that_is_not_utf8_is_refused(centre: Centre, node: Connection, value: bytes) -> None:
    before = contents(centre)
    calls = (
        (b"SELECT fleet.hello_v1(1, $1, '', 's', now(), 0, NULL, NULL, NULL)", TEXT, value),
        (
            b"SELECT fleet.receive_v1(1, 0, NULL, '\\x00', false, $1, '{NULL}', '{1}', '{NULL}', '{f}', '{now}')",
            TEXT_ARRAY, array_of(value),
        ),
        (b"SELECT fleet.incomplete_v1('\\x00', $1, '{e}', '{now}')", TEXT_ARRAY, array_of(value)),
    )  # fmt: skip
    for statement, kind, sent in calls:
        answer = node.pgconn.exec_params(statement, [sent], [kind], [BINARY])
        assert answer.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"22021"
    assert contents(centre) == before


def array_of(value: bytes) -> bytes:
    """Return the wire's form of a text[] with one element."""
    return struct.pack("!iiiiii", 1, 0, TEXT, 1, 1, len(value)) + value


@pytest.mark.parametrize("text", ['"\\u0000"', '"\\ud800"', "1e", '{"a": ', "[" * 100_000])
def test_json_that_is_no_text_is_refused(centre: Centre, node: Connection, text: str) -> None:
    with pytest.raises(psycopg.Error, match="facts are no JSON"):
        node.execute(statements.FACTS, [f'[{{"id": "{IMAGE}", "layers": [], "os": {text}}}]'])
    assert centre.rows("SELECT FROM fleet.image_facts") == []


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_a_sequence_that_no_bigint_holds_is_refused(centre: Centre, node: Connection, value: int) -> None:
    before = contents(centre)
    for statement, arguments in (
        (statements.HELLO, hello(sequence=value)),
        (statements.RECEIVE, rows("a", after=value)),
        (statements.RECEIVE, rows("a", sizes=[value])),
        (statements.SNAPSHOT, snapshot(epoch=1, sequence=value, row=ROW)),
        (statements.HASH, [1, value, None, ROW]),
    ):
        with pytest.raises(psycopg.Error) as refused:
            node.execute(statement, arguments)
        assert refused.value.sqlstate in ("42883", "22003")
    assert contents(centre) == before


def test_a_million_new_names_end_at_the_quota(centre: Centre, node: Connection) -> None:
    """Refused before anything is written: a call that is repeated does not grow the tables either."""
    centre.connection.execute("UPDATE fleet.settings SET value = 1000 WHERE name = 'pointings_per_node'")
    after, cursor = 0, None
    for call in range(2):
        names = (f"{call}-{number}" for number in range(500))
        node.execute(statements.RECEIVE, rows(*names, after=after, after_row=cursor))
        after, cursor = after + 500, ROW
    kept = contents(centre)
    sizes = "SELECT pg_total_relation_size('fleet.names'), pg_total_relation_size('fleet.pointings')"
    before = centre.rows(sizes)
    for call in range(20):
        names = (f"new-{call}-{number}" for number in range(500))
        with pytest.raises(psycopg.Error, match="quota of 1000"):
            node.execute(statements.RECEIVE, rows(*names, after=after, after_row=cursor))
    with pytest.raises(psycopg.Error, match="quota of 1000"):
        node.execute(
            statements.SNAPSHOT,
            snapshot(*map(str, range(90_000)), epoch=1, before=after, before_row=cursor),
        )
    assert contents(centre) == kept
    assert centre.rows(sizes) == before


def test_long_names_take_more_of_the_quota_also_after_a_prune(centre: Centre, node: Connection) -> None:
    centre.connection.execute("UPDATE fleet.settings SET value = 100 WHERE name = 'pointings_per_node'")
    node.execute(statements.RECEIVE, rows("x" * 60_000))
    for _ in range(2):
        with pytest.raises(psycopg.Error, match="quota of 100"):
            node.execute(statements.RECEIVE, rows("y" * 60_000, after=1, after_row=ROW))
        prune(centre.connection, datetime.now(UTC))


def test_no_size_that_a_node_claims_breaks_the_totals(centre: Centre, node: Connection) -> None:
    other = "sha256:" + "b" * 64
    state = {"ids": [IMAGE, other], "sizes": [2**63 - 1, 2**63 - 1]}
    node.execute(statements.SNAPSHOT, snapshot("a", "b", epoch=1, **state))
    with log_in(centre.enroll("b")) as second:
        second.execute(statements.SNAPSHOT, snapshot("a", "b", **state))
    assert centre.rows("SELECT bytes FROM fleet.image_totals") == [(2**63 - 1,)] * 2
    assert centre.one("SELECT bytes FROM fleet.fleet_totals") == 2**63 - 1


def test_an_agent_that_always_says_it_is_new_is_conflicted_all_the_same(
    centre: Centre, node: Connection
) -> None:
    with pytest.raises(psycopg.Error, match="malformed"):
        node.execute(statements.SNAPSHOT, snapshot(epoch=1, reason="new"))
    for epoch in range(1, 5):
        node.execute(statements.SNAPSHOT, snapshot(epoch=epoch, reason="gap"))
    assert centre.one("SELECT status FROM fleet.nodes") == "conflicted"


def test_a_node_that_holds_its_locks_can_be_revoked(centre: Centre, node: Connection) -> None:
    node.execute("BEGIN")
    node.execute(statements.RECEIVE, rows("a"))
    centre.connection.execute("SET lock_timeout = '30s'")
    revoke(centre.connection, "a")
    with pytest.raises(psycopg.OperationalError):
        node.execute("COMMIT")
    assert centre.rows("SELECT FROM fleet.names") == []
