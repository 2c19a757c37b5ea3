"""Many processes on one file: no lock reaches a caller, no stale answer stays, no reader sees half of a change.

Half of the references are updated one by one, and half only together with their twins, so that whoever finds a
twin apart from its reference has seen half of a batch. Readers hold every answer to what had been acknowledged
before they asked, and to what there was when they had the answer.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from imagekeep import Reader, Store
from imagekeep.database.backup import copy_store
from imagekeep.sync import sync
from tests.torture.children import Child, ChildError, ask
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
    """A source that takes its time between looking and answering, in which others overtake it."""

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


def crowd(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Let as many processes write as read, for `count` seconds."""
    report = Report("processes", "seconds", rounds=count)
    Store.open(directory / "images.db", platform=PLATFORM).close()
    shared = Shared(directory, seed, count)
    children = [Child(work, shared, number) for number in range(PROCESSES) for work in (write, read)]
    children.append(Child(look_after, shared))
    judge(report, shared, children, count)
    return report


def judge(report: Report, shared: Shared, children: list[Child], count: int) -> None:
    """Wait for the children, and report what they saw and what is left in the end."""
    for child in children:
        if not child.wait(count + 120):
            report.add(Harm.HUNG, "a process did not end")
        elif child.code:
            report.add(Harm.CRASHED, child.complaint or f"a process ended with {child.code}")
        for line in child.lines:
            kind, _, what = line.partition(" ")
            if not kind.isdigit():
                report.add(Harm(kind), what)
            else:
                report.facts[what] += int(kind)
    try:
        newest = {n: shared.acknowledged.newest(n) for n in (*SINGLES, *PAIRS)}
        for harm, what in ask(survey, shared.path, shared.orders, newest):
            report.add(harm, what)
    except ChildError as error:
        report.add(Harm.HUNG if error.hung else Harm.CRASHED, str(error))


def write(report: Callable[[str], None], shared: Shared, number: int) -> None:
    """Change references until the time is over, and acknowledge each change."""
    draw = random.Random(shared.seed * 1000 + number)
    changes = 0
    with Store.open(shared.path, source=SlowSource(shared.orders), platform=PLATFORM) as store:
        while time.monotonic() < shared.until:
            changes += change(store, draw, shared)
    report(f"{changes} changes")


def change(store: Store, draw: random.Random, shared: Shared) -> int:
    """Change some references and acknowledge that; return how many."""
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
    """Ask until the time is over, and report each answer that cannot be."""
    draw = random.Random(shared.seed * 1000 + 500 + number)
    answers = 0
    with Reader.open(shared.path) as reader:
        while time.monotonic() < shared.until:
            for what in wrong_answers(reader, draw, shared):
                report(what)
            answers += 1
    report(f"{answers} answers")


def wrong_answers(reader: Reader, draw: random.Random, shared: Shared) -> list[str]:
    """Ask once, and return the harm if the answer cannot be."""
    if draw.random() < 0.8:
        return list(_impossible(reader, draw.choice((*SINGLES, *PAIRS)), shared))
    return list(inconsistent(reader.list() if draw.random() < 0.5 else list(reader.iter())))


def look_after(report: Callable[[str], None], shared: Shared) -> None:
    """Check the store and copies of it until the time is over: each is one state, and whole."""
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
    """Look one reference up, and give the harm where its order cannot be."""
    least = shared.acknowledged.newest(number)
    found = order_of(reader, reference(number))
    most = shared.orders.newest(number)
    if not possible(found, least, most):
        yield f"{Harm.LOST} {reference(number)} is at {found}, after {least} was acknowledged, of {most}"


def inconsistent(images: list[Image]) -> Iterator[str]:
    """Give what no one state of the store can be: half of a batch, half of an image, half of a pin."""
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
