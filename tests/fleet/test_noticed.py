"""A restored, copied, new or cloned store is noticed at its next shipment, a hundred times of a hundred."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.backup import copy_store
from imagekeep.database.restore import restore_store
from imagekeep.fleet.shipment import Reason
from tests.fleet.nodes import Node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.centres import Centre


def restored(node: Node, earlier: Path) -> None:
    """Restore an earlier backup."""
    restore_store(node.path, earlier)


def copied_back(node: Node, earlier: Path) -> None:
    """Put an earlier copy of the file in its place, as a virtual machine's snapshot does."""
    reinstalled(node, earlier)
    shutil.copy(earlier, node.path)


def reinstalled(node: Node, earlier: Path) -> None:
    """Begin with a new store."""
    for path in node.path.parent.glob(f"{node.path.name}*"):
        path.unlink()
    Store.open(node.path).close()


def cloned(node: Node, earlier: Path) -> None:
    """Take the store of a clone, which has shipped from the earlier copy meanwhile."""
    original = node.path.with_suffix(".original")
    copy_store(node.path, original)
    reinstalled(node, earlier)
    shutil.copy(earlier, node.path)
    node.change()
    assert node.ship().snapshots == [Reason.RESTORED]
    reinstalled(node, earlier)
    shutil.copy(original, node.path)


def test_every_store_that_is_not_the_one_shipped_last_is_noticed(centre: Centre, tmp_path: Path) -> None:
    expected = {restored: Reason.RESTORED, copied_back: Reason.RESTORED, reinstalled: Reason.REINSTALLED}
    expected[cloned] = Reason.RESTORED
    for number in range(100):
        act = (restored, copied_back, reinstalled, cloned)[number % 4]
        node = Node(tmp_path / f"{number}.db", centre.enroll(f"node-{number}"), seed=number)
        node.change(1 + number % 7)
        copy_store(node.path, tmp_path / f"{number}.kept")
        node.change(1 + number % 5)
        node.ship()
        act(node, tmp_path / f"{number}.kept")
        node.change(1 + number % 6)
        assert node.ship().snapshots == [expected[act]], (number, act)
        found = centre.rows(
            "SELECT reference, image_id, pinned FROM fleet.node_references WHERE node = %s", f"node-{number}"
        )
        assert set(found) == node.state()
