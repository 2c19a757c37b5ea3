"""Measures the verbs that read, in one process."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import bare
from benchmarks.corpus import made_images
from benchmarks.measure import Row, cost, speed
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.bare import Found
    from benchmarks.corpus import MadeImage
    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image

SAMPLE = 1_000
"""Images to look up in a turn, drawn from the whole store."""

TRUNCATED = 12
"""Hex digits of a truncated id, as people type it."""

_DRAWN = random.Random(1)  # noqa: S311 - the same in every run


class Opened(NamedTuple):
    """A store opened by imagekeep and by the bare driver, with the names and ids to look up."""

    reader: Reader
    bare: sqlite.Connection
    names: list[str]
    ids: list[str]

    @property
    def truncated(self) -> list[str]:
        """Return the ids as people type them."""
        return [image_id.partition(":")[2][:TRUNCATED] for image_id in self.ids]

    def resolve(self) -> list[str]:
        """Resolve each name."""
        resolve = self.reader.resolve
        return [resolve(name) for name in self.names]

    def get(self, ids: Sequence[str]) -> list[Image]:
        """Get the image of each full or truncated id."""
        get = self.reader.get
        return [get(image_id) for image_id in ids]


@contextlib.contextmanager
def opened(path: Path, count: int) -> Iterator[Opened]:
    """Open a store of the first `count` made images, and check its answers about a sample of them."""
    with Reader.open(path) as reader, contextlib.closing(bare.connect_to(path)) as connection:
        images = drawn_images(count)
        store = Opened(reader, connection, [image.tag for image in images], [i.image_id for i in images])
        _check(store, images)
        yield store


def drawn_images(count: int) -> list[MadeImage]:
    """Return a random sample of the first `count` images."""
    drawn = _DRAWN.sample(range(count), min(SAMPLE, count))
    return [next(made_images(1, number)) for number in drawn]


def plain(image: Image) -> Found:
    """Return an image as the tuple that the baseline makes."""
    return image.id, image.references, image.chain_id, image.size, image.pinned, image.config_json


def _check(store: Opened, images: list[MadeImage]) -> None:
    """Raise ValueError unless imagekeep, the baseline and the made images agree."""
    made = [(i.image_id, i.references, i.chain_id, i.size, i.pinned, i.config_json) for i in images]
    ids, truncated = store.ids, store.truncated
    answers = {
        "resolve": (
            [i.image_id for i in images],
            store.resolve(),
            bare.resolve_each(store.bare, store.names),
        ),
        "get": (made, list(map(plain, store.get(ids))), bare.get_each(store.bare, ids)),
        "truncated": (
            made,
            list(map(plain, store.get(truncated))),
            bare.get_each_by_prefix(store.bare, truncated),
        ),
    }
    for verb, (expected, ours, theirs) in answers.items():
        if not expected == ours == theirs:
            raise ValueError(f"{verb}: wrong answer")


def lookups(path: Path, count: int) -> Iterator[Row]:
    """Measure resolve and get in a store of `count` images."""
    with opened(path, count) as store:
        ids, truncated, names = store.ids, store.truncated, store.names
        yield speed(
            "resolve", store.resolve, lambda: bare.resolve_each(store.bare, names), len(names), at_least=0.85
        )
        yield speed(
            "get, full id",
            lambda: store.get(ids),
            lambda: bare.get_each(store.bare, ids),
            len(ids),
            at_least=0.80,
        )
        yield speed(
            f"get, {TRUNCATED}-digit id",
            lambda: store.get(truncated),
            lambda: bare.get_each_by_prefix(store.bare, truncated),
            len(ids),
            at_least=0.80,
        )
        yield speed(
            f"get, {TRUNCATED}-digit id, config decoded",
            lambda: [image.config for image in store.get(truncated)],
            lambda: _decode(bare.get_each_by_prefix(store.bare, truncated)),
            len(ids),
            at_least=0.55,
            note="the baseline decodes with json.loads",
        )


def _decode(images: list[Found]) -> list[object]:
    return [json.loads(image[-1]) for image in images]


def lists(path: Path, count: int) -> Iterator[Row]:
    """Measure a list of every image; times are for one image."""
    with opened(path, count) as store:
        if list(map(plain, store.reader.list())) != bare.list_images(store.bare):
            raise ValueError("list: wrong answer")
        yield speed(
            f"list, {count:,} images",
            store.reader.list,
            lambda: bare.list_images(store.bare),
            count,
            at_least=1.0,
            rounds=5,
            note="the baseline is the plain two-query form",
        )


def growth(small: tuple[Path, int], large: tuple[Path, int]) -> Iterator[Row]:
    """Measure how much slower a look-up is in a large store than in a small one."""
    with opened(*small) as few, opened(*large) as many:
        for verb, of_few, of_many in (
            ("resolve", few.resolve, many.resolve),
            ("get, full id", lambda: few.get(few.ids), lambda: many.get(many.ids)),
            (f"get, {TRUNCATED}-digit id", lambda: few.get(few.truncated), lambda: many.get(many.truncated)),
        ):
            yield cost(
                f"{verb}: {large[1]:,} images against {small[1]:,}",
                of_many,
                of_few,
                len(few.ids),
                at_most=2.5,
            )


def openings(small: tuple[Path, int], large: tuple[Path, int]) -> Iterator[Row]:
    """Measure the time from opening a store to its first answer."""
    name = next(made_images(1)).tag

    def ours(path: Path) -> None:
        for _ in range(20):
            with Reader.open(path) as reader:
                reader.resolve(name)

    def theirs(path: Path) -> None:
        for _ in range(20):
            with contextlib.closing(bare.connect_to(path)) as connection:
                bare.resolve_each(connection, [name])

    path, count = small
    # Keep the stores open, as a daemon would: the last connection to close runs a checkpoint.
    with opened(*small), opened(*large):
        yield cost("open to first answer", lambda: ours(path), lambda: theirs(path), 20, at_most=2.0)
        yield cost(
            f"open to first answer: {large[1]:,} images against {count:,}",
            lambda: ours(large[0]),
            lambda: ours(path),
            20,
            at_most=1.2,
        )
