"""Many processes on one file: no caller sees a lock, no stale answer stays, no reader sees half a change.

Half of the references are updated singly, half only together with their twins, so that a twin that disagrees
reveals half a batch. Readers compare every answer with what was acknowledged before they asked, and with the newest
when they got it.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from imagekeep import Reader, Store
from imagekeep.database.backup import copy_store
from imagekeep.sync import sync
from tests.torture.children import Child
from tests.torture.orders import PINNED_EVERY, PLATFORM, OrderedSource, Orders, order_in, reference, twin
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants, order_of, possible, survey
from tests.torture.workers import update_twins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.image import Image, ImageRecord

SINGLES, PAIRS = range(4), range(4, 8)
PROCESSES = 8


class SlowSource(OrderedSource):
    """A source that waits before answering, so that others overtake it."""

    def get(self, name: str) -> ImageRecord:
        record = super().get(name)
        time.sleep(random.expovariate(1000))
        return record


class Shared:
    """What the processes share: the store's path, the newest orders, and the acknowledged ones."""

    def __init__(self, directory: Path, seed: int, seconds: float) -> None:
        self.path = directory / "images.db"
        count = len(SINGLES) + len(PAIRS)
        self.orders = Orders(directory / "orders", count)
        self.acknowledged = Orders(directory / "acknowledged", count)
        self.seed = seed
        self.until = time.monotonic() + seconds


def read_and_write(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Run as many writers as readers for `count` seconds."""
    report = Report("processes", "seconds", rounds=count)
    Store.open(directory / "images.db", platform=PLATFORM).close()
    shared = Shared(directory, seed, count)
    children = [Child(work, shared, number) for number in range(PROCESSES) for work in (write, read)]
    children.append(Child(check_and_copy, shared))
    report_children(report, shared, children, count)
    return report


def report_children(report: Report, shared: Shared, children: list[Child], count: int) -> None:
    """Wait for the children; report the harms they saw, and those in the store at the end."""
    for child in children:
        if not child.wait(count + 120):
            report.add(Harm.HUNG, "a process did not end")
        elif child.code:
            report.add(Harm.CRASHED, child.stderr or f"a process ended with {child.code}")
        for line in child.lines:
            kind, _, what = line.partition(" ")
            if not kind.isdigit():
                report.add(Harm(kind), what)
            else:
                report.facts[what] += int(kind)
    newest = {n: shared.acknowledged.newest(n) for n in (*SINGLES, *PAIRS)}
    report.survey(survey, shared.path, shared.orders, newest)


def write(report: Callable[[str], None], shared: Shared, number: int) -> None:
    """Change references until the time is up, and acknowledge each change."""
    draw = random.Random(shared.seed * 1000 + number)
    changes = 0
    with Store.open(shared.path, source=SlowSource(shared.orders), platform=PLATFORM) as store:
        while time.monotonic() < shared.until:
            changes += change(store, draw, shared)
    report(f"{changes} changes")


def change(store: Store, draw: random.Random, shared: Shared) -> int:
    """Change some references and acknowledge it; return how many."""
    chosen = draw.choice((_update, _update_pair, _sync_some))(store, draw, shared)
    for changed, order in chosen:
        shared.acknowledged.raise_to(changed, order)
    return len(chosen)


def _update(store: Store, draw: random.Random, shared: Shared) -> list[tuple[int, int]]:
    number = draw.choice(SINGLES)
    order = shared.orders.take(number)
    store.update(reference(number))
    return [(number, order)]


def _update_pair(store: Store, draw: random.Random, shared: Shared) -> list[tuple[int, int]]:
    number = draw.choice(PAIRS)
    order = shared.orders.take(number)
    update_twins(store, number)
    return [(number, order)]


def _sync_some(store: Store, draw: random.Random, shared: Shared) -> list[tuple[int, int]]:
    taken = [(number, shared.orders.take(number)) for number in draw.sample(SINGLES, 2)]
    sync(store, [reference(number) for number, _ in taken])
    return taken


def read(report: Callable[[str], None], shared: Shared, number: int) -> None:
    """Read until the time is up, and report each impossible answer."""
    draw = random.Random(shared.seed * 1000 + 500 + number)
    answers = 0
    with Reader.open(shared.path) as reader:
        while time.monotonic() < shared.until:
            for what in wrong_answers(reader, draw, shared):
                report(what)
            answers += 1
    report(f"{answers} answers")


def wrong_answers(reader: Reader, draw: random.Random, shared: Shared) -> list[str]:
    """Read once, and return the harms in an impossible answer."""
    if draw.random() < 0.8:
        return list(_impossible(reader, draw.choice((*SINGLES, *PAIRS)), shared))
    return list(inconsistent(reader.list() if draw.random() < 0.5 else list(reader.iter())))


def check_and_copy(report: Callable[[str], None], shared: Shared) -> None:
    """Check the store and copies of it until the time is up."""
    checks = 0
    copy = shared.path.with_name("copy.db")
    while time.monotonic() < shared.until:
        copy_store(shared.path, copy)
        for path in (shared.path, copy):
            for harm, what in broken_invariants(path):
                report(f"{harm} {path.name}: {what}")
            checks += 1
        copy.unlink()
    report(f"{checks} checks")


def _impossible(reader: Reader, number: int, shared: Shared) -> Iterator[str]:
    """Look up one reference, and yield a harm if its order is impossible."""
    least = shared.acknowledged.newest(number)
    found = order_of(reader, reference(number))
    most = shared.orders.newest(number)
    if not possible(found, least, most):
        yield f"{Harm.LOST} {reference(number)} is at {found}, after {least} was acknowledged, of {most}"


def inconsistent(images: list[Image]) -> Iterator[str]:
    """Yield what no single state of the store can be: half a batch, half an image, half a pin."""
    at: dict[str, int] = {}
    for image in images:
        if not image.references:
            yield f"{Harm.BROKEN} {image.id} has no reference"
        number, order = order_in(image.config_json)
        at.update(dict.fromkeys(image.references, order))
        if image.pinned != (order % PINNED_EVERY == 0) or not {reference(number), twin(number)} >= {
            *image.references
        }:
            yield f"{Harm.BROKEN} {image.references} at {order}, pinned: {image.pinned}"
    for number in PAIRS:
        if at.get(reference(number)) != at.get(twin(number)):
            yield f"{Harm.BROKEN} {reference(number)} is at {at.get(reference(number))}, its twin is not"
