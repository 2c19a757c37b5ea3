"""Checks a store after a fault: is everything acknowledged there, and does every invariant hold?

It runs in its own process, which opens the store like any other: nothing is repaired by hand.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.driver import DRIVER_ERRORS
from imagekeep.digest import digest_of
from imagekeep.errors import ImageNotFoundError
from imagekeep.internals import local_resolve
from tests.torture.orders import (
    GONE_EVERY,
    PLATFORM,
    OrderedSource,
    Orders,
    documents_of,
    order_in,
    reference,
    twin,
)
from tests.torture.report import Harm, Seen
from tests.torture.workers import update_twins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from imagekeep.reader import Reader


def survey(path: Path, orders: Orders, acknowledged: Mapping[int, int]) -> list[Seen]:
    """Return every harm in the store at `path`, and update it from the source at the end."""
    with Store.open(path, source=OrderedSource(orders), platform=PLATFORM) as store:
        seen = [
            *broken_invariants(path),
            *lost_changes(store, orders, acknowledged),
            *stale_history(store, orders),
        ]
        for number in range(orders.count):
            update_twins(store, number)
        newest = {number: orders.newest(number) for number in range(orders.count)}
        return [*seen, *lost_changes(store, orders, newest), *broken_invariants(path)]


def broken_invariants(path: Path) -> Iterator[Seen]:
    """Yield the findings of `db check`."""
    with contextlib.closing(connect(path, read_only=True)) as connection:
        connection.execute("BEGIN")
        try:
            for problem in find_problems(connection):
                yield Harm.BROKEN, str(problem)
        except DRIVER_ERRORS as error:
            yield Harm.BROKEN, str(error)


def lost_changes(reader: Reader, orders: Orders, acknowledged: Mapping[int, int]) -> Iterator[Seen]:
    """Yield the references that are older than acknowledged, or newer than the source."""
    for number in range(orders.count):
        least, most = acknowledged.get(number, 0), orders.newest(number)
        found = order_of(reader, reference(number))
        if not possible(found, least, most):
            yield (
                Harm.LOST,
                f"{reference(number)} is at {found}; {least} was acknowledged, {most} is the newest",
            )
        other = order_of(reader, twin(number))
        if other is not None and not possible(other, 0, most):
            yield Harm.BROKEN, f"{twin(number)} is at {other}, and {most} is the newest"


def order_of(reader: Reader, name: str) -> int | None:
    """Return the order of a reference's image, or None if the reference is not there."""
    try:
        return order_in(local_resolve(reader, name).config_json)[1]  # in one snapshot
    except ImageNotFoundError:
        return None


def possible(found: int | None, least: int, most: int) -> bool:
    """Return whether a reference may be at an order, or gone, if `least` is done and `most` may be in progress."""
    if found is not None:
        return least <= found <= most and found % GONE_EVERY != 0
    return most - most % GONE_EVERY >= least


def stale_history(store: Store, orders: Orders) -> Iterator[Seen]:
    """Yield the references whose history goes back to an older answer."""
    for number in range(orders.count):
        newest = orders.newest(number)
        order_by_id = {digest_of(documents_of(number, n).config): n for n in range(1, newest + 1)}
        for name in (reference(number), twin(number)):
            seen = [order_by_id[e.image_id] for e in store.history(name) if e.event != "vanished"]
            yield from (
                (Harm.LOST, f"{name} went back from {before} to {after}")
                for before, after in regressions(seen)
            )


def regressions(orders: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield each order that is followed by a smaller one, and that one."""
    yield from ((a, b) for a, b in itertools.pairwise(orders) if b < a)
