"""A model of what the centre must know of one node, range by range, with which the centre is compared.

It follows the cursor that the centre has: the rows of the store's history up to it, and the states at which an
epoch began. It knows nothing of the centre's SQL.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from imagekeep import Reader
from imagekeep.database.feed import read_page
from imagekeep.fleet.wire import wire_name
from imagekeep.reader import ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from imagekeep.database.feed import FeedRow


class Value(NamedTuple):
    """What a reference is at a time."""

    image_id: str
    size: int | None
    target_digest: str | None
    pinned: bool


class Open(NamedTuple):
    """A range that has not ended: its value, and the row that began it."""

    value: Value
    epoch: int
    sequence: int


class Closed(NamedTuple):
    """A range that has ended; `to_sequence` is None where a snapshot ended it."""

    name: str
    value: Value
    epoch: int
    sequence: int
    to_sequence: int | None


class Model:
    """The ranges of one node."""

    def __init__(self) -> None:
        self.epoch = self.sequence = 0
        self.open: dict[str, Open] = {}
        self.closed: Counter[Closed] = Counter()

    def take_rows(self, rows: Iterable[FeedRow]) -> None:
        """Apply rows of the history, in their order."""
        for row in rows:
            self._put(wire_name(row.reference), value_of(row), row.sequence, row.sequence)
            self.sequence = row.sequence

    def take_state(self, state: dict[str, Value], epoch: int, sequence: int) -> None:
        """Begin an epoch with a state."""
        self.epoch, self.sequence = epoch, sequence
        for name in self.open.keys() | state.keys():
            self._put(name, state.get(name), sequence, None)

    def state(self) -> dict[str, Value]:
        """Return the value of every reference."""
        return {name: each.value for name, each in self.open.items()}

    def _put(self, name: str, value: Value | None, sequence: int, to_sequence: int | None) -> None:
        before = self.open.get(name)
        if before and before.value == value:
            return
        if before:
            self.closed[Closed(name, *before, to_sequence)] += 1
            del self.open[name]
        if value:
            self.open[name] = Open(value, self.epoch, sequence)


def value_of(row: FeedRow) -> Value | None:
    """Return what a reference is after a row."""
    if row.event == "vanished":
        return None
    return Value(row.image_id, row.size, row.target_digest, row.pinned)


def rows_between(path: Path, after: int, last: int) -> list[FeedRow]:
    """Return the rows of a store's history after one, up to another."""
    with Reader.open(path) as reader:
        return ask(reader, read_page, after, 0, last - after).rows if last > after else []


def state_after(rows: Sequence[FeedRow]) -> dict[str, Value]:
    """Return the state to which a whole history leads."""
    state = {wire_name(row.reference): value_of(row) for row in rows}
    return {name: value for name, value in state.items() if value}
