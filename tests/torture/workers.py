"""Workers to kill: they write to a store without end, and acknowledge each change once it is done.

An acknowledgement is a line `NUMBER ORDER`, reported after the call that wrote the change has returned.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.cli import main
from imagekeep.database.backup import copy_store
from imagekeep.internals import apply_all, lock_references
from imagekeep.sync import sync
from imagekeep.watch import Watcher, WatchIntervals
from tests.images import LayoutWriter, named
from tests.torture.orders import PLATFORM, OrderedSource, Orders, number_of, reference, twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READY = "ready"


def update_without_end(report: Callable[[str], None], path: Path, orders: Orders, seed: int) -> None:
    """Update one reference after another."""
    _change_without_end(lambda store, number: store.update(reference(number)), report, path, orders, seed)


def update_twins_without_end(report: Callable[[str], None], path: Path, orders: Orders, seed: int) -> None:
    """Change a reference and its twin in one batch, so that they never disagree."""
    _change_without_end(update_twins, report, path, orders, seed)


def _change_without_end(
    change: Callable[[Store, int], object],
    report: Callable[[str], None],
    path: Path,
    orders: Orders,
    seed: int,
) -> None:
    draw = random.Random(seed)
    with Store.open(path, source=OrderedSource(orders), platform=PLATFORM) as store:
        report(READY)
        while True:
            number = draw.randrange(orders.count)
            order = orders.take(number)
            change(store, number)
            report(f"{number} {order}")


def update_twins(store: Store, number: int) -> None:
    """Update a reference and its twin, both from the source's record of the reference."""
    names = [reference(number), twin(number)]
    with lock_references(store, names):
        observed = store.observe(names[0])
        apply_all(store, dict.fromkeys(names, observed))


def sync_without_end(report: Callable[[str], None], path: Path, orders: Orders, seed: int) -> None:
    """Change a few references at the source, and sync them all."""
    draw = random.Random(seed)
    with Store.open(path, source=OrderedSource(orders), platform=PLATFORM) as store:
        report(READY)
        while True:
            taken = [(number, orders.take(number)) for number in draw.sample(range(orders.count), 3)]
            sync(store)
            for number, order in taken:
                report(f"{number} {order}")


def watch_without_end(report: Callable[[str], None], path: Path, orders: Orders, seed: int) -> None:
    """Watch a source that changes continually; the watcher's log is its acknowledgement."""
    source = _ChangingSource(orders, seed)

    class Acknowledge(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name = str(getattr(record, "reference", ""))
            if hasattr(record, "transition") and name == reference(number_of(name)):  # no twin
                report(f"{number_of(name)} {source.last_said[name]}")

    logging.getLogger("imagekeep.watch").addHandler(Acknowledge())
    logging.getLogger("imagekeep.watch").setLevel(logging.INFO)
    with Store.open(path, source=source, platform=PLATFORM) as store:
        report(READY)
        Watcher(store, source_name="orders", intervals=WatchIntervals(settle=0.02, reconcile=0.05)).run()


def sync_layouts_without_end(report: Callable[[str], None], path: Path, directory: Path, first: int) -> None:
    """Sync a layout whose tags all move from one generation to the next."""
    report(READY)
    for generation in range(first, 1 << 31):
        write_generation(directory, generation)
        _command(
            path, "--source", f"oci:{directory}", "--base-name", "docker.io/library/layout", "sync", "-q"
        )
        report(f"generation {generation}")


def back_up_without_end(report: Callable[[str], None], path: Path) -> None:
    """Back up the store repeatedly; the command prints the name of each copy."""
    report(READY)
    while True:
        _command(path, "db", "backup")


def migrate(report: Callable[[str], None], path: Path) -> None:
    """Migrate the store; the command prints the result."""
    report(READY)
    _command(path, "db", "migrate")


def restore(report: Callable[[str], None], path: Path, copy: Path) -> None:
    """Restore a copy; the command prints the result."""
    report(READY)
    _command(path, "db", "restore", str(copy))


def prepare_copies(path: Path, directory: Path, copies: dict[int, Path]) -> None:
    """Sync a layout's generations one after another, and copy the store after each."""
    for generation, copy in copies.items():
        write_generation(directory, generation)
        _command(
            path, "--source", f"oci:{directory}", "--base-name", "docker.io/library/layout", "sync", "-q"
        )
        copy_store(path, copy)


def create(report: Callable[[str], None], path: Path) -> None:
    """Create a store."""
    report(READY)
    Store.open(path, platform=PLATFORM).close()
    report("made")


def _command(path: Path, *arguments: str) -> None:
    """Run imagekeep; raises RuntimeError for an exit code other than 0."""
    if code := main(["--store", str(path), "--platform", PLATFORM, *arguments]):
        raise RuntimeError(f"imagekeep {' '.join(arguments)}: exit code {code}")


TAGS = ("stable", "testing", "latest", "edge")


def write_generation(directory: Path, generation: int) -> None:
    """Write a layout's next generation: one image with all tags."""
    layout = LayoutWriter(directory) if not directory.exists() else LayoutWriter.__new__(LayoutWriter)
    layout.directory = directory
    image = layout.image(environment=[f"GENERATION={generation}"])
    layout.write_index(named(image, tag) for tag in TAGS)


def generation_in(config: bytes) -> int:
    """Return the generation in a config."""
    return int(json.loads(config)["config"]["Env"][0].partition("=")[2])


@dataclass(frozen=True)
class _Event:
    reference: str
    at: int = 0


class _Changes:
    """Events of references that a thread changes one after another."""

    def __init__(self, orders: Orders, seed: int) -> None:
        self._orders = orders
        self._draw = random.Random(seed)
        self._events: queue.Queue[_Event] = queue.Queue(maxsize=4)
        threading.Thread(target=self._change, daemon=True).start()

    def _change(self) -> None:
        while True:
            number = self._draw.randrange(self._orders.count)
            self._orders.take(number)
            self._events.put(_Event(reference(number)))

    def __iter__(self) -> Iterator[_Event]:
        while True:
            yield self._events.get()

    def cancel(self) -> None:
        """Do nothing; the watcher is killed."""


class _ChangingSource(OrderedSource):
    """A source that reports its changes; implements `Watchable`."""

    def __init__(self, orders: Orders, seed: int) -> None:
        super().__init__(orders)
        self._seed = seed

    def subscribe(self) -> _Changes:
        """Return the changes from now on."""
        return _Changes(self.orders, self._seed ^ os.getpid())
