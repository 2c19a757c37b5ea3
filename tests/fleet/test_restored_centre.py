"""A PostgreSQL that is restored to an earlier hour: one shipment of each node makes it equal to the node again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psycopg

from imagekeep import Reader
from imagekeep.database.feed import read_state
from imagekeep.fleet.administration import migrate
from imagekeep.fleet.wire import state_hash
from imagekeep.reader import ask
from tests.fleet.centres import Centre
from tests.fleet.nodes import Node
from tests.fleet.server import running

if TYPE_CHECKING:
    from pathlib import Path

STATE = """
SELECT fleet.hash_of_state(node_key), sequence,
    (SELECT count(*) FROM fleet.epochs AS e WHERE e.node_key = n.node_key)
FROM fleet.nodes AS n WHERE name = %s
"""


def test_every_node_is_equal_again_after_one_shipment(tmp_path: Path) -> None:
    with running() as server:
        data, kept = server.directory / "data", server.directory / "kept"
        with psycopg.connect(server.url("postgres"), autocommit=True) as owner:
            migrate(owner)
            centre = Centre(server, "postgres", owner)
            nodes = [Node(tmp_path / f"{n}.db", centre.enroll(f"node-{n}"), seed=n) for n in range(8)]
        for node in nodes[:6]:
            node.change(20)
            node.ship()
        server.stop()
        server.copy(data, kept)
        server.start()
        change_after_the_backup(nodes)
        server.kill()
        shutil.rmtree(data)
        kept.rename(data)
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as owner:
            centre = Centre(server, "postgres", owner)
            for number, node in enumerate(nodes):
                node.ship()
                with Reader.open(node.path) as reader:
                    state = ask(reader, read_state)
                [(found, sequence, epochs)] = centre.rows(STATE, f"node-{number}")
                assert (found, sequence) == (state_hash(state.rows), state.newest.sequence), number
                assert epochs == 1, number  # what the centre lacks are rows, not whole states


def change_after_the_backup(nodes: list[Node]) -> None:
    """Ship changes that the backup lacks: none, few, more than a call takes, and a node's first ones."""
    for node, changes in zip(nodes, (0, 1, 5, 40, 80, 600, 10, 10), strict=True):
        if changes:
            node.change(changes)
            node.ship()
