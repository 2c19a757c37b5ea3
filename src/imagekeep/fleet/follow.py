"""Ships a store again and again: soon after a change, regularly without one, less and less often while it fails."""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from imagekeep import internals
from imagekeep.errors import ImagekeepError
from imagekeep.fleet.centre import Centre
from imagekeep.fleet.connection import connect, place_of
from imagekeep.fleet.shipment import ship
from imagekeep.reader import Reader
from imagekeep.ship_status import failed, read_ship_status, succeeded, write_ship_status
from imagekeep.times import timestamp

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.fleet.shipment import Shipment
    from imagekeep.ship_status import ShipStatus

log = logging.getLogger("imagekeep.fleet")

LOOK_EVERY = 1.0
"""Seconds between two looks at whether the store has changed; each takes microseconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between shipments: without a change, at least after one, and at most after failures."""

    interval: float = 300.0
    least: float = 60.0
    most: float = 3600.0

    def wait(self, failures: int, draw: float) -> float:
        """Return the seconds to the next shipment, spread by half with `draw`, from 0 to 1.

        Many nodes start at once, and lose their centre at once; they must not come back at once.
        """
        base = min(self.most, self.least * 2 ** min(failures, 20)) if failures else self.interval
        return base * (0.5 + draw)


def ship_store(path: Path, parameters: dict[str, str], version: str) -> Shipment:
    """Ship the store at `path` once, and record the outcome beside it.

    `parameters` are those of `imagekeep.fleet.connection.parse_url` or `read_credentials`. Raises as
    `imagekeep.fleet.shipment.ship` does.
    """
    place = place_of(parameters)
    try:
        with Reader.open(path) as reader, connect(parameters, f"imagekeep {version}") as connection:
            done = ship(reader, Centre(connection, place), version)
    except ImagekeepError as error:
        _record(path, failed(read_ship_status(path), place, timestamp(), str(error)))
        raise
    _record(path, succeeded(place, timestamp(), done.epoch, done.sequence))
    return done


def follow_store(
    path: Path, parameters: dict[str, str], version: str, stop: threading.Event, pace: Pace | None = None
) -> None:
    """Ship the store at `path` until `stop` is set; no failure ends it."""
    pace = pace or Pace()
    failures = 0
    while not stop.is_set():
        try:
            done = ship_store(path, parameters, version)
        except ImagekeepError as error:
            failures += 1
            log.warning("not shipped: %s", error)
        else:
            failures = 0
            for reason in done.snapshots:
                log.warning("sent the whole state: %s", reason)
            log.info("shipped %d rows, up to %d of epoch %d", done.rows, done.sequence, done.epoch)
        _rest(path, pace, failures, stop)


def _rest(path: Path, pace: Pace, failures: int, stop: threading.Event) -> None:
    """Wait for the next shipment; if the last one succeeded, a change shortens it."""
    began = monotonic()
    end = began + pace.wait(failures, random.random())  # noqa: S311 (no secret)
    with contextlib.ExitStack() as stack:
        changed = None if failures else stack.enter_context(_changes(path))
        while (now := monotonic()) < end and not stop.wait(min(LOOK_EVERY, end - now)):
            if changed and monotonic() - began >= pace.least and changed():
                return


@contextlib.contextmanager
def _changes(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the store has changed since the context began."""
    with Reader(path) as reader:
        before = _version(reader)
        yield lambda: _version(reader) != before


def _version(reader: Reader) -> int | None:
    """Return a number that changes with the store, or None while no store can be read."""
    try:
        return internals.data_version(reader)
    except ImagekeepError:
        return None


def _record(path: Path, status: ShipStatus) -> None:
    try:
        write_ship_status(path, status)
    except OSError as error:  # as with a store that this user may only read
        log.debug("the status of the shipment is not recorded: %s", error)
