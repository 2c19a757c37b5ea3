"""Draws cost against the number of images, both in powers of ten: imagekeep's and the bare driver's."""

from __future__ import annotations

import contextlib
import importlib
import sys
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import bare, stores
from benchmarks.corpus import made_images
from benchmarks.measure import in_turns
from benchmarks.reads import opened
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = 5
OPENINGS = 20
_DRAWN_AT = (1_000, 10_000, 100_000, 1_000_000)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")  # told apart by colour-blind readers too


class Point(NamedTuple):
    """Microseconds of one verb, in a store of so many images."""

    verb: str
    images: int
    ours: float
    bare: float


def draw(file: Path, folder: Path, sizes: tuple[int, int, int]) -> int:
    """Measure, and write the plot to a PNG or SVG; return 1 where matplotlib is missing."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        print(f"scripts/benchmark: --plot: {error}; pip install --group benchmark", file=sys.stderr)
        return 1
    counts = [count for count in _DRAWN_AT if count <= sizes[-1]] or [*sorted(set(sizes))]
    points = [point for count in counts for point in measured(folder, count)]
    # The same figures give the same bytes, with texts as texts: the file stays small, and can be searched.
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


def measured(folder: Path, count: int) -> Iterator[Point]:
    """Measure every verb in a store of so many images."""
    path = stores.store_of(folder, count)
    with opened(path, count) as store:
        names, ids, truncated, connection = store.names, store.ids, store.truncated, store.bare

        def point(verb: str, ours: Callable[[], object], theirs: Callable[[], object], times: int) -> Point:
            mine, others = (median(seconds) for seconds in zip(*in_turns(ours, theirs, ROUNDS), strict=True))
            made = Point(verb, count, mine / times * 1e6, others / times * 1e6)
            print(
                f"{made.verb}, {count:,} images: {made.ours:.3g} µs, bare {made.bare:.3g} µs", file=sys.stderr
            )
            return made

        yield point("open, and resolve", lambda: _open(path), lambda: _open_bare(path), OPENINGS)
        yield point(
            "get, 12 hex",
            lambda: store.get(truncated),
            lambda: bare.get_each_by_prefix(connection, truncated),
            len(ids),
        )
        yield point("get, full id", lambda: store.get(ids), lambda: bare.get_each(connection, ids), len(ids))
        yield point("list, an image", store.reader.list, lambda: bare.list_images(connection), count)
        yield point("resolve", store.resolve, lambda: bare.resolve_each(connection, names), len(names))


_NAME = next(made_images(1)).tag


def _open(path: Path) -> None:
    for _ in range(OPENINGS):
        with Reader.open(path) as reader:
            reader.resolve(_NAME)


def _open_bare(path: Path) -> None:
    for _ in range(OPENINGS):
        with contextlib.closing(bare.connect_to(path)) as connection:
            bare.resolve_each(connection, [_NAME])
