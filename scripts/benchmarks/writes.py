"""Measures writing in one process: single updates, which the disk bounds, and syncs."""

from __future__ import annotations

import contextlib
import shutil
import statistics
from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import bare, stores
from benchmarks.corpus import PLATFORM, MemorySource, made_images
from benchmarks.measure import Figure, Row, speed, timed
from imagekeep.image import ImageRecord, ObservedImage
from imagekeep.internals import apply_all, lock_references
from imagekeep.store import Store
from imagekeep.sync import BATCH, sync
from imagekeep.transition import Transition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.bare import Pair
    from benchmarks.corpus import MadeImage
    from imagekeep.database.driver import sqlite

UPDATES = 10
"""Updates in a turn; few updates and many turns, because a disk's speed changes from second to second."""

TURNS = 31

_numbers = count(10_000_000)


class Writing(NamedTuple):
    """Two copies of one store: imagekeep writes one, the bare driver the other."""

    store: Store
    source: MemorySource
    bare: sqlite.Connection

    def update(self, pairs: list[Pair], expected: Transition) -> None:
        """Move each reference to the image beside it at the source, and update the store."""
        for name, image in pairs:
            self.source.by_name[name] = ImageRecord(name, image.target)
        for name, _ in pairs:
            if self.store.update(name) is not expected:
                raise ValueError(f"update of {name}: not {expected}")

    def apply(self, pairs: list[Pair], expected: Transition) -> None:
        """Do what an update does after reading the documents."""
        for name, image in pairs:
            with lock_references(self.store, [name]):
                if self.store.apply(name, observation(image, name)) is not expected:
                    raise ValueError(f"update of {name}: not {expected}")


@contextlib.contextmanager
def writing(path: Path, directory: Path) -> Iterator[Writing]:
    """Open two copies of a store to write; check the invariants of imagekeep's at the end."""
    ours, theirs = directory / "ours.db", directory / "bare.db"
    for copy in (ours, theirs):
        shutil.copy(path, copy)
    source = MemorySource([])
    try:
        with (
            Store.open(ours, source=source, platform=PLATFORM) as store,
            contextlib.closing(bare.connect_to(theirs, writing=True)) as connection,
        ):
            yield Writing(store, source, connection)
        stores.check(ours)
    finally:
        for copy in (*directory.glob("ours.db*"), *directory.glob("bare.db*")):
            copy.unlink()


def new_images(number: int) -> list[MadeImage]:
    """Return images that are in no store."""
    return [next(made_images(1, next(_numbers))) for _ in range(number)]


def updates(path: Path, directory: Path) -> Iterator[Row]:
    """Measure single durable updates, with the documents read from memory and already read."""
    known = [image for image in made_images(UPDATES + 1) if not image.pinned]
    for transition in (Transition.NEW, Transition.MOVED, Transition.UNCHANGED):
        for verb, note in (
            (Writing.update, "one fsync each; imagekeep also reads and verifies the documents"),
            (Writing.apply, "one fsync each"),
        ):
            read_before = ", documents already read" if verb is Writing.apply else ""
            with writing(path, directory) as both:
                turns = [_pairs(transition, known) for _ in range(TURNS + 1)]
                for _, image in chain.from_iterable(turns):
                    both.source.add(image)
                ours, theirs = iter(turns), iter(turns)
                yield speed(
                    f"update, {transition.value}{read_before}",
                    lambda: verb(both, next(ours), transition),  # noqa: B023 - called before the next turn
                    lambda: bare.update_each(both.bare, next(theirs), transition.value),  # noqa: B023
                    len(known),
                    at_least=0.80,
                    rounds=TURNS,
                    note=note,
                )


def _pairs(transition: Transition, known: list[MadeImage]) -> list[Pair]:
    """Return references with their new images, which make that transition."""
    if transition is Transition.UNCHANGED:
        return [(image.tag, image) for image in known]
    images = new_images(len(known))
    names = [image.tag for image in (images if transition is Transition.NEW else known)]
    return list(zip(names, images, strict=True))


def new_references(path: Path, directory: Path, references: int = 10_000) -> Iterator[Row]:
    """Measure the writes of a sync of new references, in the batches of `sync`."""
    with writing(path, directory) as both:
        turns = [_batches(new_images(references // 2)) for _ in range(6)]
        ours, theirs = iter(turns), iter(turns)

        def write() -> None:
            for batch in next(ours):
                observed = {name: observation(image, name) for name, image in batch}
                with lock_references(both.store, observed):
                    if set(apply_all(both.store, observed).values()) != {Transition.NEW}:
                        raise ValueError("sync: not all are new")

        def write_bare() -> None:
            for batch in next(theirs):
                bare.add_batch(both.bare, batch)

        yield speed(
            f"sync of {references:,} new references, documents already read",
            write,
            write_bare,
            references,
            at_least=0.85,
            rounds=5,
            note=f"one fsync per {BATCH}",
        )


def unchanged_references(path: Path, images: int, directory: Path) -> Iterator[Row]:
    """Measure a sync that changes nothing, against one that reads every document again."""
    with writing(path, directory) as both:
        source = both.source
        for image in made_images(images):
            source.add(image)
        references = len(source.by_name)
        some = list(source.by_name)[: references // 20]
        sync_all(both.store, references)
        sync(both.store, some, verify=True)
        ratios, taken = [], []
        for _ in range(5):
            source.documents_read = 0
            confirming = timed(lambda: sync_all(both.store, references)) / references
            if source.documents_read:
                raise ValueError("sync: a document was read again")
            reading = timed(lambda: sync(both.store, some, verify=True)) / len(some)
            ratios.append(reading / confirming)
            taken.append((confirming, reading))
        yield Row(
            f"sync of {references:,} references, none changed",
            Figure.of(ratios),
            at_least=10,
            ours=statistics.median(confirming for confirming, _ in taken),
            baseline=statistics.median(reading for _, reading in taken),
            note="baseline: reading them again (measured on a twentieth)",
        )


def sync_all(store: Store, references: int) -> None:
    """Sync every reference; raise ValueError if one has changed."""
    report = sync(store)
    if report.failures or report.counts != {Transition.UNCHANGED: references}:
        raise ValueError(f"sync: {report.counts}, {len(report.failures)} failures")


def _batches(images: list[MadeImage]) -> list[list[Pair]]:
    """Return the references of some images with their images, in batches of sync's size."""
    pairs = [(name, image) for image in images for name in image.references]
    return [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]


def observation(image: MadeImage, name: str) -> ObservedImage:
    """Return what a source reports about one reference of an image."""
    pinned = image.pinned and name == image.tag
    return ObservedImage(
        image.image_id, image.chain_id, image.size, image.config_json, image.target.digest, pinned
    )
