"""Plots cost against the number of images on logarithmic axes, for imagekeep and the bare driver.

A point is the fastest of several rounds. All stores take turns in each round, so that other load on the machine
does not bend a line.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import bare, stores
from benchmarks.corpus import made_images
from benchmarks.measure import timed
from benchmarks.reads import Opened, opened
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = 9
OPENINGS = 20
_DRAWN_AT = (1_000, 10_000, 100_000, 1_000_000)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")  # distinct for colour-blind readers too


class Verb(NamedTuple):
    """One operation of imagekeep and of the bare driver, and how often each call repeats it."""

    name: str
    ours: Callable[[], object]
    bare: Callable[[], object]
    times: int


class Point(NamedTuple):
    """Microseconds of one verb in a store of `images` images."""

    verb: str
    images: int
    ours: float
    bare: float


def draw(file: Path, directory: Path, sizes: tuple[int, int, int]) -> int:
    """Measure, and write the plot to a PNG or SVG; return 1 if matplotlib is missing."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        print(f"scripts/benchmark: --plot: {error}; pip install --group benchmark", file=sys.stderr)
        return 1
    counts = [count for count in _DRAWN_AT if count <= sizes[-1]] or [*sorted(set(sizes))]
    points = list(measured(directory, counts))
    # Equal figures make equal bytes; text stays text, so that the file is small and searchable.
    matplotlib.rcParams.update({"svg.hashsalt": "imagekeep", "svg.fonttype": "none"})
    figure = figures.Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for verb, colour in zip(dict.fromkeys(point.verb for point in points), _COLOURS, strict=True):
        of_verb = [point for point in points if point.verb == verb]
        images = [point.images for point in of_verb]
        axes.plot(images, [point.ours for point in of_verb], "o-", color=colour, label=verb)
        axes.plot(images, [point.bare for point in of_verb], "x--", color=colour, label=f"{verb}, bare")
    axes.set(xscale="log", yscale="log", xlabel="images in the store", ylabel="µs")
    axes.grid(visible=True, which="major", alpha=0.3)
    figure.legend(loc="outside right center")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    return 0


def measured(directory: Path, counts: list[int]) -> Iterator[Point]:
    """Measure every verb in a store of each size."""
    with contextlib.ExitStack() as stack:
        paths = [stores.store_of(directory, count) for count in counts]
        several = [
            stack.enter_context(opened(path, count)) for path, count in zip(paths, counts, strict=True)
        ]
        verbs = [
            _verbs(store, path, count) for store, path, count in zip(several, paths, counts, strict=True)
        ]
        for of_verb in zip(*verbs, strict=True):
            rounds = [[(timed(verb.ours), timed(verb.bare)) for verb in of_verb] for _ in range(ROUNDS + 1)]
            for verb, count, taken in zip(of_verb, counts, zip(*rounds[1:], strict=True), strict=True):
                ours, theirs = (min(seconds) / verb.times * 1e6 for seconds in zip(*taken, strict=True))
                print(f"{verb.name}, {count:,} images: {ours:.3g} µs, bare {theirs:.3g} µs", file=sys.stderr)
                yield Point(verb.name, count, ours, theirs)


def _verbs(store: Opened, path: Path, count: int) -> list[Verb]:
    names, ids, truncated, connection = store.names, store.ids, store.truncated, store.bare
    return [
        Verb("open and resolve", lambda: _open(path), lambda: _open_bare(path), OPENINGS),
        Verb(
            "get, 12-digit id",
            lambda: store.get(truncated),
            lambda: bare.get_each_by_prefix(connection, truncated),
            len(ids),
        ),
        Verb("get, full id", lambda: store.get(ids), lambda: bare.get_each(connection, ids), len(ids)),
        Verb("list, an image", store.reader.list, lambda: bare.list_images(connection), count),
        Verb("resolve", store.resolve, lambda: bare.resolve_each(connection, names), len(names)),
    ]


_NAME = next(made_images(1)).tag


def _open(path: Path) -> None:
    for _ in range(OPENINGS):
        with Reader.open(path) as reader:
            reader.resolve(_NAME)


def _open_bare(path: Path) -> None:
    for _ in range(OPENINGS):
        with contextlib.closing(bare.connect_to(path)) as connection:
            bare.resolve_each(connection, [_NAME])
