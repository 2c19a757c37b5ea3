"""The program recorded for power cuts: it works on a store, and acknowledges changes in the same directory.

    python -m tests.torture.recorded SCENARIO DIRECTORY ORDERS SEED

An acknowledgement is a line in the file `acknowledged`, written once a call has returned, so that it has its place
in the order of the recorded calls.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.cli import main
from imagekeep.database.backup import copy_store
from imagekeep.sync import sync
from tests.torture.orders import PLATFORM, OrderedSource, Orders, reference
from tests.torture.workers import update_twins

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCES = 4
ACKNOWLEDGED = "acknowledged"
STORE = "images.db"


class Recorded:
    """A store in a recorded directory."""

    def __init__(self, directory: Path, orders: Path, seed: int) -> None:
        self.path = directory / STORE
        self.orders = Orders(orders, REFERENCES)
        self.draw = random.Random(seed)
        self._acknowledged = os.open(directory / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledge(self, line: str) -> None:
        """Record that something is done."""
        os.write(self._acknowledged, f"{line}\n".encode())

    def work(self, changes: int) -> None:
        """Open the store, change it `changes` times, and close it."""
        with Store.open(self.path, source=OrderedSource(self.orders), platform=PLATFORM) as store:
            self.acknowledge("made")
            for _ in range(changes):
                number = self.draw.randrange(REFERENCES)
                order = self.orders.take(number)
                self._change(store, number)
                self.acknowledge(f"{number} {order}")

    def _change(self, store: Store, number: int) -> None:
        """Update a reference in one of three ways."""
        way = self.draw.randrange(3)
        if way == 0:
            store.update(reference(number))
        elif way == 1:
            update_twins(store, number)
        else:
            sync(store)

    def command(self, *arguments: str) -> None:
        """Run the command on the store."""
        if code := main(["--store", str(self.path), *arguments]):
            raise SystemExit(code)


def make_and_update(recorded: Recorded) -> None:
    """Create a store, and open and change it a few times; each closing checkpoints."""
    for changes in (4, 6, 1, 8):
        recorded.work(changes)


def update_for_long(recorded: Recorded) -> None:
    """Change an open store until its -wal file restarts."""
    recorded.work(110)


def back_up(recorded: Recorded) -> None:
    """Copy a store between changes."""
    for number in range(3):
        recorded.work(3)
        name = f"copy-{number}.db"
        recorded.command("db", "backup", str(recorded.path.with_name(name)))
        recorded.acknowledge(f"copied {name}")


def migrate(recorded: Recorded) -> None:
    """Migrate an old store, then change it."""
    recorded.command("db", "migrate")
    recorded.acknowledge("made")
    recorded.work(3)


def restore(recorded: Recorded) -> None:
    """Use a copy as a store, which puts it into WAL mode."""
    elsewhere = recorded.path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    there, recorded.path = recorded.path, elsewhere / STORE
    recorded.work(0)
    copy_store(recorded.path, there.with_name("moved.db"))
    recorded.path = there
    os.rename(there.with_name("moved.db"), there)  # noqa: PTH104 - as an operator's mv does
    recorded.work(5)


def put_back(recorded: Recorded) -> None:
    """Restore a copy twice, each time over later changes."""
    copy = recorded.path.with_name("copy-0.db")
    recorded.work(3)
    recorded.command("db", "backup", str(copy))
    recorded.acknowledge(f"copied {copy.name}")
    for _ in range(2):
        recorded.work(2)
        recorded.acknowledge("restoring")
        recorded.command("db", "restore", str(copy))
        recorded.acknowledge("restored")


SCENARIOS: dict[str, Callable[[Recorded], None]] = {
    "updates": make_and_update,
    "long": update_for_long,
    "backup": back_up,
    "migrate": migrate,
    "restore": restore,
    "put-back": put_back,
}

if __name__ == "__main__":
    scenario, place, order_file, seed_text = sys.argv[1:]
    SCENARIOS[scenario](Recorded(Path(place), Path(order_file), int(seed_text)))
