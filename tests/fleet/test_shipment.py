"""Shipments of real stores to a real PostgreSQL: what arrives, and when the whole state is sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Store
from imagekeep.cli import main
from imagekeep.database.backup import copy_store
from imagekeep.database.restore import restore_store
from imagekeep.database.revision import HEAD
from imagekeep.errors import CentreRefusedError
from imagekeep.fleet.administration import revoke
from imagekeep.fleet.shipment import Reason
from imagekeep.image import Observation
from tests.fleet.nodes import VERSION, Node
from tests.model import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.centres import Centre

STATE = "SELECT reference, image_id, pinned FROM fleet.node_references WHERE node = %s"
RANGES = """
SELECT m.name, i.id, r.pinned, r.sequence, r.valid_from, r.valid_to, r.epoch
FROM (
    SELECT node_key, pointing_key, pinned, epoch, sequence, valid_from, NULL AS valid_to
    FROM fleet.current_references
    UNION ALL
    SELECT node_key, pointing_key, pinned, epoch, sequence, valid_from, valid_to
    FROM fleet.past_references
) AS r
JOIN fleet.nodes AS n ON n.node_key = r.node_key
JOIN fleet.pointings AS p ON p.pointing_key = r.pointing_key
JOIN fleet.names AS m ON m.name_key = p.name_key
JOIN fleet.images AS i ON i.image_key = p.image_key
WHERE n.name = %s
ORDER BY m.name, r.epoch, r.sequence
"""


@pytest.fixture
def node(centre: Centre, tmp_path: Path) -> Node:
    """An enrolled node with an empty store."""
    return Node(tmp_path / "images.db", centre.enroll("a"))


def state_of(centre: Centre, node: str = "a") -> set[tuple[Any, ...]]:
    """Return what the centre says a node has."""
    return set(centre.rows(STATE, node))


def test_the_first_shipment_sends_the_whole_state(centre: Centre, node: Node) -> None:
    node.change(40)
    done = node.ship()
    assert (done.snapshots, done.rows, done.compared) == ([Reason.NEW], 0, True)
    assert state_of(centre) == node.state()


def test_an_empty_store_is_shipped(centre: Centre, node: Node) -> None:
    assert (node.ship().snapshots, state_of(centre)) == ([Reason.NEW], set())
    made = node.change(3)
    done = node.ship()
    assert (done.snapshots, done.rows) == ([], made)
    assert state_of(centre) == node.state()


def test_later_shipments_send_only_the_rows_since(centre: Centre, node: Node) -> None:
    node.ship()
    for _ in range(5):
        made = node.change(7)
        done = node.ship()
        assert (done.snapshots, done.rows) == ([], made)
        assert state_of(centre) == node.state()


def test_more_rows_than_a_call_takes_are_sent_in_several(centre: Centre, node: Node) -> None:
    node.ship()
    made = node.change(1203)
    assert node.ship().rows == made
    assert state_of(centre) == node.state()


def test_a_state_shipped_in_pieces_is_equal_by_hash(centre: Centre, node: Node) -> None:
    node.ship()
    for _ in range(4):
        node.change(30)
        node.ship()
    centre.rows("UPDATE fleet.nodes SET hashed_at = NULL RETURNING 1")
    done = node.ship()
    assert (done.compared, done.snapshots) == (True, [])


def test_each_change_is_one_range(centre: Centre, node: Node) -> None:
    node.ship()
    for image in (0, 1, None, 2):
        node.point("app:1", image)
    node.point("app:1", 2, pinned=True)
    node.ship()
    found = centre.rows(RANGES, "a")
    assert [(image, pinned, sequence) for _, image, pinned, sequence, *_ in found] == [
        (IMAGES[0].id, False, 1),
        (IMAGES[1].id, False, 2),
        (IMAGES[2].id, False, 4),
        (IMAGES[2].id, True, 5),
    ]
    ends = [valid_to for *_, valid_to, _ in found]
    assert ends[0] == found[1][4]
    assert ends[1] < found[2][4]
    assert ends[3] is None


def test_as_of_a_time_is_what_the_node_had_then(centre: Centre, node: Node) -> None:
    node.ship()
    node.change(60)
    node.ship()
    with Store.open(node.path) as store:
        names = {name for name, *_ in node.state()} | {"app:1"}
        entries = [(entry.at, name, entry) for name in names for entry in store.history(name)]
    for at, *_ in entries:
        then: dict[str, tuple[str, bool]] = {}
        for when, name, entry in sorted(entries, key=lambda each: each[0]):
            if when > at:
                break
            if entry.event == "vanished":
                then.pop(name, None)
            else:
                then[name] = (entry.image_id, entry.pinned)
        rows = centre.rows("SELECT reference, image_id, pinned FROM fleet.node_references_at('a', %s)", at)
        assert {name: (image, pinned) for name, image, pinned in rows if name in names} == then


def test_a_restore_is_noticed(centre: Centre, node: Node, tmp_path: Path) -> None:
    node.change(20)
    node.ship()
    copy_store(node.path, tmp_path / "backup.db")
    node.change(5)
    node.ship()
    restore_store(node.path, tmp_path / "backup.db")
    node.change(7)
    assert node.ship().snapshots == [Reason.RESTORED]
    assert state_of(centre) == node.state()


def test_a_restore_that_only_loses_what_was_not_shipped_is_noticed(
    centre: Centre, node: Node, tmp_path: Path
) -> None:
    node.change(20)
    node.ship()
    copy_store(node.path, tmp_path / "backup.db")
    restore_store(node.path, tmp_path / "backup.db")
    assert node.ship().snapshots == [Reason.RESTORED]


def test_a_virtual_machine_that_goes_back_to_its_snapshot_is_noticed(
    centre: Centre, node: Node, tmp_path: Path
) -> None:
    node.change(20)
    node.ship()
    earlier = node.copy_to(tmp_path / "copy.db")
    node.change(5)
    node.ship()
    earlier.change(9)
    assert earlier.ship().snapshots == [Reason.RESTORED]
    assert state_of(centre) == earlier.state()


def test_a_new_store_under_the_name_is_noticed(centre: Centre, node: Node, tmp_path: Path) -> None:
    node.change(20)
    node.ship()
    other = Node(tmp_path / "other.db", node.parameters, seed=5)
    other.change(30)
    assert other.ship().snapshots == [Reason.REINSTALLED]
    assert state_of(centre) == other.state()


def test_a_clone_that_flaps_is_refused(centre: Centre, node: Node, tmp_path: Path) -> None:
    node.change(20)
    node.ship()
    clone = node.copy_to(tmp_path / "clone.db")
    node.change()
    node.ship()
    for each in (clone, node, clone):
        each.change()
        assert each.ship().snapshots == [Reason.RESTORED]
    node.change()
    with pytest.raises(CentreRefusedError, match="conflicted"):
        node.ship()
    assert centre.rows("SELECT node, kind FROM fleet.node_conflicts") == [("a", "epochs")]
    with pytest.raises(CentreRefusedError, match="conflicted"):
        node.ship()
    node.parameters = centre.enroll("a")
    node.ship()
    assert state_of(centre) == node.state()


def test_a_state_that_differs_at_the_centre_is_sent_again(centre: Centre, node: Node) -> None:
    node.change(20)
    node.ship()
    centre.rows("DELETE FROM fleet.current_references WHERE sequence > 0 RETURNING 1")
    centre.rows("UPDATE fleet.nodes SET hashed_at = NULL RETURNING 1")
    assert node.ship().snapshots == [Reason.HASH]
    assert state_of(centre) == node.state()
    assert centre.one("SELECT hash_repairs FROM fleet.node_status") == 1


def test_a_centre_restored_from_an_old_backup_is_brought_up_to_date(centre: Centre, node: Node) -> None:
    node.change(20)
    node.ship()
    tables = ("nodes", "current_references", "past_references")
    for table in tables:
        centre.connection.execute(f"CREATE TABLE saved_{table} AS TABLE fleet.{table}")
    made = node.change(20)
    node.ship()
    columns = "epoch, sequence, cursor_row, last_at, store_id"
    centre.connection.execute(f"UPDATE fleet.nodes SET ({columns}) = (SELECT {columns} FROM saved_nodes)")
    for table in tables[1:]:
        centre.connection.execute(f"DELETE FROM fleet.{table}")
        centre.connection.execute(f"INSERT INTO fleet.{table} SELECT * FROM saved_{table}")
    done = node.ship()
    assert (done.rows, done.snapshots) == (made, [])
    assert state_of(centre) == node.state()


def test_names_that_postgresql_cannot_hold_are_escaped(centre: Centre, node: Node) -> None:
    for name in ("a\0b", "a\x01b", "a\x010b", "x" * 32_768, "ключ"):
        node.point(name, 1)
    node.ship()
    node.point("late\0", 2)
    node.ship()
    assert state_of(centre) == node.state()


def test_the_greeting_is_kept(centre: Centre, node: Node) -> None:
    node.ship()
    [(status, version, revision, late)] = centre.rows(
        "SELECT status, version, revision, reported_at < now() - interval '1 minute' FROM fleet.node_status"
    )
    assert (status, version, revision, late) == ("active", VERSION, HEAD, False)


def test_facts_of_an_image_arrive_once_and_are_confirmed_by_another_node(
    centre: Centre, node: Node, tmp_path: Path
) -> None:
    node.point("app:3", 3)
    node.ship()
    layers = centre.rows(
        "SELECT diff_id FROM fleet.layer_nodes WHERE node = 'a' AND image_id = %s", IMAGES[3].id
    )
    assert len(layers) == 3
    other = Node(tmp_path / "other.db", centre.enroll("b"))
    other.point("app:3", 3)
    other.ship()
    [(os, confirmed)] = centre.rows("SELECT os, confirmed_by IS NOT NULL FROM fleet.image_facts")
    assert (os, confirmed) == ("linux", True)


def test_a_revoked_node_that_is_enrolled_again_sends_its_state_and_not_its_past(
    centre: Centre, node: Node
) -> None:
    node.change(20)
    node.ship()
    revoke(centre.connection, "a")
    ranges = len(centre.rows(RANGES, "a"))
    node.parameters = centre.enroll("a")
    assert node.ship().snapshots == [Reason.RESTORED]
    assert state_of(centre) == node.state()
    assert len(centre.rows(RANGES, "a")) == ranges + len(node.state())


@pytest.mark.parametrize(("shipped", "snapshots"), [(False, [Reason.GAP]), (True, [])])
def test_a_history_that_was_cut_is_a_gap_only_if_the_cursor_is_gone(
    centre: Centre, node: Node, shipped: bool, snapshots: list[Reason]
) -> None:
    node.ship()
    for image in (0, 1, 2):
        node.point("app:1", image)
        if shipped or not image:
            node.ship()
    time.sleep(0.001)
    assert main(["--store", str(node.path), "db", "prune-history", "--older-than", "0s"]) == 0
    node.point("app:2", 3)
    assert node.ship().snapshots == snapshots
    assert state_of(centre) == node.state()


def test_only_the_first_platform_of_a_store_is_shipped(centre: Centre, node: Node) -> None:
    with Store.open(node.path, platforms=["linux/amd64", "linux/arm64"]) as store:
        for number in (1, 2, 3):
            images = {"linux/amd64": IMAGES[number], "linux/arm64": IMAGES[number + 10]}
            store.apply("app:1", Observation(images, ("linux/amd64", "linux/arm64")))
            node.ship()
        store.apply("app:2", Observation({"linux/arm64": IMAGES[20]}, ("linux/amd64", "linux/arm64")))
        done = node.ship()
    assert (done.rows, done.snapshots) == (1, [])
    assert state_of(centre) == node.state() == {("app:1", IMAGES[3].id, False)}
    assert len(centre.rows(RANGES, "a")) == 3
