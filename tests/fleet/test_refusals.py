"""Malicious and broken agents: the centre refuses them by name, and takes nothing of the call."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from imagekeep.fleet import statements
from imagekeep.fleet.administration import prune, revoke
from tests.fleet.centres import log_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.fleet.connection import Connection
    from tests.fleet.centres import Centre

NOW = datetime.now(UTC)
ROW = hashlib.sha256(b"row").digest()
IMAGE = "sha256:" + "a" * 64


@pytest.fixture
def node(centre: Centre) -> Iterator[Connection]:
    """A connection of a node that has shipped an empty state."""
    with log_in(centre.enroll("a")) as connection:
        connection.execute(statements.SNAPSHOT, snapshot())
        yield connection


def snapshot(*names: str | None, **changes: Any) -> list[Any]:
    """Return the arguments of a snapshot, with changed ones by their place."""
    given = list(names)
    columns = [given, [IMAGE] * len(given), [1] * len(given), [None] * len(given), [False] * len(given)]
    arguments: dict[str, Any] = {
        "epoch": 0, "before": 0, "before_row": None, "reason": "new", "store_id": "s", "sequence": 0, "row": None,
        "origin": 0, "origin_row": None, "names": columns[0], "ids": columns[1], "sizes": columns[2],
        "targets": columns[3], "pinned": columns[4],
    }  # fmt: skip
    assert not changes.keys() - arguments.keys()
    if changes.get("epoch"):
        arguments["reason"] = "gap"
    return list((arguments | changes).values())


def rows(*names: str | None, **changes: Any) -> list[Any]:
    """Return the arguments of receive_v1 for a node in its first epoch."""
    length = len(names)
    arguments: dict[str, Any] = {
        "epoch": 1, "after": 0, "after_row": None, "last_row": ROW, "more": False, "names": list(names),
        "ids": [IMAGE] * length, "sizes": [1] * length, "targets": [None] * length, "pinned": [False] * length,
        "at": [NOW] * length,
    }  # fmt: skip
    assert not changes.keys() - arguments.keys()
    return list((arguments | changes).values())


def contents(centre: Centre) -> list[Any]:
    """Return what a refused call must not change."""
    tables = (
        "current_references",
        "past_references",
        "names",
        "pointings",
        "images",
        "targets",
        "image_facts",
    )
    counts = [centre.rows(f"SELECT count(*) FROM fleet.{table}") for table in tables]
    return [*counts, *centre.rows("SELECT epoch, sequence, cursor_row, pointings_added FROM fleet.nodes")]


RECEIVED: dict[str, tuple[list[Any], str]] = {
    "unlike lengths": (rows("a", "b", ids=[IMAGE]), "unlike lengths"),
    "no array": (rows("a", sizes=None), "unlike lengths"),
    "two dimensions": (
        rows("a", names=[["a"]], ids=[[IMAGE]], sizes=[[1]], targets=[["x"]], pinned=[[True]], at=[[NOW]]),
        "more than one dimension",
    ),
    "too many rows": (rows(*map(str, range(501))), "501 rows"),
    "too many bytes": (rows(*("x" * 60_000 + str(n) for n in range(200)), targets=None), "unlike lengths"),
    "long names": (rows(*("x" * 60_000 + str(n) for n in range(200))), "bytes, where"),
    "no rows": (rows(), "no rows"),
    "no pin": (rows("a", pinned=[None]), "no pin"),
    "no time": (rows("a", at=[None]), "no pin or no time"),
    "no digest": (rows("a", ids=["latest"]), "no digest"),
    "no target digest": (rows("a", targets=["x"]), "no digest"),
    "an empty name": (rows(""), "empty"),
    "a name of 70 kB": (rows("x" * 70_000), "too long"),
    "no cursor": (rows("a", last_row=None), "malformed cursor"),
    "a short cursor": (rows("a", last_row=b"x"), "malformed cursor"),
    "a later cursor": (rows("a", after=1), "is at sequence"),
    "the last sequence": (rows("a", after=2**63 - 1), "is at sequence"),
    "another epoch": (rows("a", epoch=2), "is at sequence"),
    "another row": (rows("a", after_row=ROW), "another row"),
    "a time without end": (rows("a", at=["infinity"]), "years 1 to 9999"),
    "a time before all others": (rows("a", "b", at=["2026-01-01", "-infinity"]), "years 1 to 9999"),
    "a year that Python cannot read": (rows("a", at=["294276-01-01"]), "years 1 to 9999"),
}


@pytest.mark.parametrize("case", RECEIVED)
def test_rows_are_refused(centre: Centre, node: Connection, case: str) -> None:
    arguments, why = RECEIVED[case]
    before = contents(centre)
    with pytest.raises(psycopg.Error, match=why) as refused:
        node.execute(statements.RECEIVE, arguments)
    assert str(refused.value.sqlstate) in ("IK003", "IK005")
    assert contents(centre) == before


SNAPSHOTS: dict[str, tuple[list[Any], str]] = {
    "a name twice": (snapshot("a", "a", epoch=1), "there twice"),
    "no name": (snapshot(None, epoch=1), "lacks a field"),
    "no image": (snapshot("a", epoch=1, ids=[None]), "lacks a field"),
    "unlike lengths": (snapshot("a", epoch=1, pinned=[]), "unlike lengths"),
    "another reason": (snapshot(epoch=1, reason="because"), "malformed"),
    "a negative sequence": (snapshot(epoch=1, sequence=-1, row=ROW), "malformed"),
    "the last sequence": (snapshot(epoch=1, sequence=2**63 - 1, row=ROW), "malformed"),
    "a sequence without its row": (snapshot(epoch=1, sequence=5), "malformed"),
    "another epoch": (snapshot(epoch=7), "is at sequence"),
    "new for the second time": (snapshot(epoch=1, reason="new"), "malformed"),
    "an origin past the last sequence": (snapshot(epoch=1, origin=2**63 - 1, origin_row=ROW), "malformed"),
    "an origin before the first": (snapshot(epoch=1, origin=-1, origin_row=ROW), "malformed"),
    "a short origin": (snapshot(epoch=1, origin=1, origin_row=b"x"), "malformed"),
}


@pytest.mark.parametrize("case", SNAPSHOTS)
def test_a_snapshot_is_refused(centre: Centre, node: Connection, case: str) -> None:
    arguments, why = SNAPSHOTS[case]
    before = contents(centre)
    with pytest.raises(psycopg.Error, match=why):
        node.execute(statements.SNAPSHOT, arguments)
    assert contents(centre) == before


@pytest.mark.parametrize(
    "facts",
    [
        "{}", "[1]", '[{"id": null, "layers": []}]', '[{"id": "sha256:x", "layers": []}]', f'[{{"id": "{IMAGE}"}}]',
        f'[{{"id": "{IMAGE}", "layers": ["x"]}}]', f'[{{"id": "{IMAGE}", "layers": {{}}}}]',
        f'[{{"id": "{IMAGE}", "layers": [null]}}]', f'[{{"id": "{IMAGE}", "layers": [], "os": "{"x" * 2000}"}}]',
        "[" + ",".join([f'{{"id": "{IMAGE}", "layers": []}}'] * 101) + "]",
        f'[{{"id": "{IMAGE}", "layers": [{",".join([chr(34) + IMAGE + chr(34)] * 1001)}]}}]',
    ],
)  # fmt: skip
def test_facts_are_refused(centre: Centre, node: Connection, facts: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        node.execute(statements.FACTS, (facts,))
    assert refused.value.sqlstate == "IK005"


def test_facts_of_an_image_that_the_node_does_not_have_are_ignored(centre: Centre, node: Connection) -> None:
    node.execute(statements.FACTS, (f'[{{"id": "{IMAGE}", "layers": ["{IMAGE}"]}}]',))
    assert centre.rows("SELECT FROM fleet.image_facts") == []


def test_a_second_claim_about_an_image_is_a_conflict_and_overwrites_nothing(
    centre: Centre, node: Connection
) -> None:
    other_layer = "sha256:" + "b" * 64
    with log_in(centre.enroll("b")) as liar:
        for each, layer in ((node, IMAGE), (liar, other_layer)):
            if each is liar:
                each.execute(statements.SNAPSHOT, snapshot("a"))
            else:
                each.execute(statements.RECEIVE, rows("a"))
            each.execute(statements.FACTS, (f'[{{"id": "{IMAGE}", "layers": ["{layer}"]}}]',))
    assert centre.rows("SELECT diff_id FROM fleet.layer_nodes WHERE node = 'b'") == [(IMAGE,)]
    assert centre.rows("SELECT node, kind, image_id FROM fleet.node_conflicts") == [("b", "facts", IMAGE)]


def test_a_repeated_call_is_refused_and_changes_nothing(centre: Centre, node: Connection) -> None:
    node.execute(statements.RECEIVE, rows("a", "b"))
    before = contents(centre)
    with pytest.raises(psycopg.Error, match="is at sequence 2") as refused:
        node.execute(statements.RECEIVE, rows("a", "b"))
    assert refused.value.sqlstate == "IK003"
    assert contents(centre) == before


def test_a_row_that_changes_nothing_opens_no_range(centre: Centre, node: Connection) -> None:
    node.execute(statements.RECEIVE, rows("a", "a"))
    assert centre.rows("SELECT sequence FROM fleet.current_references") == [(1,)]
    assert centre.rows("SELECT FROM fleet.past_references") == []


def test_rows_that_the_fleet_does_not_keep_move_the_cursor(centre: Centre, node: Connection) -> None:
    node.execute(statements.RECEIVE, rows("a", None, None, ids=[IMAGE, None, None]))
    assert centre.rows("SELECT sequence FROM fleet.nodes") == [(3,)]
    assert centre.rows("SELECT reference FROM fleet.node_references") == [("a",)]


@pytest.mark.parametrize("years", [-1, 1, 5000])
def test_times_never_run_backwards_or_into_the_future(centre: Centre, node: Connection, years: int) -> None:
    wrong = NOW.replace(year=NOW.year + years)
    node.execute(statements.RECEIVE, rows("a", "a", "a", ids=[IMAGE, None, IMAGE], at=[NOW, wrong, NOW]))
    found = centre.rows(
        "SELECT valid_from, valid_to FROM fleet.past_references UNION ALL "
        "SELECT valid_from, NULL FROM fleet.current_references ORDER BY 1"
    )
    assert len(found) == 2
    assert all(start <= datetime.now(UTC) for start, _ in found)
    assert found[0][0] <= found[0][1] <= found[1][0]
    assert centre.one("SELECT clamped FROM fleet.nodes") > 0


def test_a_quota_limits_new_names_and_a_prune_frees_it(centre: Centre, node: Connection) -> None:
    centre.connection.execute("UPDATE fleet.settings SET value = 3 WHERE name = 'pointings_per_node'")
    node.execute(statements.RECEIVE, rows("a", "b", "c", ids=[IMAGE, IMAGE, IMAGE]))
    later = {"after": 3, "after_row": ROW}
    with pytest.raises(psycopg.Error, match=r"quota of 3 \(run `imagekeep fleet prune`\)"):
        node.execute(statements.RECEIVE, rows("d", **later))
    node.execute(statements.RECEIVE, rows("a", "b", ids=[None, None], **later))
    pruned = prune(centre.connection, datetime.now(UTC))
    assert (pruned.ranges, pruned.pointings, pruned.names, pruned.images) == (2, 2, 2, 0)
    node.execute(statements.RECEIVE, rows("d", after=5, after_row=ROW))


@pytest.mark.parametrize("value", ["p_now", "version", "store_id", "protocol", "revision", "time"])
def test_a_greeting_is_refused(centre: Centre, node: Connection, value: str) -> None:
    given = {"version": "1", "revision": "0004", "store_id": "s", "p_now": NOW}
    changed = {"p_now": None, "version": "x" * 101, "store_id": None, "revision": "x" * 101}
    watcher_connected_at = "infinity" if value == "time" else None
    statement = statements.HELLO
    if value == "protocol":
        statement = statement.replace("hello_v1(1,", "hello_v1(2,")
    elif value != "time":
        given[value] = changed[value]
    with pytest.raises(psycopg.Error) as refused:
        node.execute(statement, [*given.values(), 0, None, watcher_connected_at, None])
    assert refused.value.sqlstate == ("IK002" if value == "protocol" else "IK005")


def test_a_revoked_node_is_refused_and_its_past_stays(centre: Centre, node: Connection) -> None:
    node.execute(statements.RECEIVE, rows("a"))
    role = centre.one("SELECT role_name FROM fleet.nodes")
    node.close()
    revoke(centre.connection, "a")
    assert centre.rows("SELECT FROM pg_roles WHERE rolname = %s", role) == []
    assert centre.rows("SELECT FROM fleet.node_references") == []
    assert len(centre.rows("SELECT FROM fleet.past_references")) == 1


def test_the_owner_is_not_a_node(centre: Centre) -> None:
    with pytest.raises(psycopg.Error, match="not an enrolled node"):
        centre.connection.execute(statements.HASH, (0, 0, None, ROW))
