"""Nodes under test: real stores that change at random and are shipped."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagekeep import Reader, Store
from imagekeep.fleet.centre import Centre
from imagekeep.fleet.connection import connect, place_of
from imagekeep.fleet.shipment import ship
from imagekeep.fleet.wire import wire_name
from tests.model import IMAGES, Operations, perform

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.fleet.shipment import Shipment

VERSION = "1.2.3"


class Node:
    """A store and the credentials to ship it."""

    def __init__(self, path: Path, parameters: dict[str, str], seed: int = 0) -> None:
        self.path = path
        self.parameters = parameters
        self.random = random.Random(seed)
        self.operations = Operations(self.random)
        Store.open(path).close()

    def change(self, times: int = 1) -> int:
        """Make at least this many changes that the history records; return how many."""
        with Store.open(self.path) as store:
            before = length_of_history(store)
            while length_of_history(store) < before + times:
                perform(store, self.operations.draw())
            return length_of_history(store) - before

    def point(self, reference: str, image: int | None, *, pinned: bool = False) -> None:
        """Point a reference at an image, or delete it."""
        with Store.open(self.path) as store:
            store.apply(reference, None if image is None else replace(IMAGES[image], pinned=pinned))

    def ship(self) -> Shipment:
        """Ship once."""
        with connect(self.parameters) as connection, Reader.open(self.path) as reader:
            return ship(reader, Centre(connection, place_of(self.parameters)), VERSION)

    def state(self) -> set[tuple[str, str, bool]]:
        """Return the references, with their images and pins."""
        with Reader.open(self.path) as reader:
            return {
                (wire_name(name), state.image_id, state.pinned) for name, state in reader.states().items()
            }

    def copy_to(self, path: Path, **changes: Any) -> Node:
        """Return another node on a copy of this file."""
        shutil.copy(self.path, path)
        return Node(path, changes.get("parameters", self.parameters), changes.get("seed", 1))


def length_of_history(store: Reader) -> int:
    """Return the sequence of the newest row."""
    from imagekeep import internals

    return internals.feed_end(store)[0].sequence
