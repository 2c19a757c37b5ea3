"""Flipped bits in a store's file: an error that is ours, a finding of `db check`, or no difference at all.

What `db check` has no second witness for is told apart, and counted: a size, a target's digest and platform, a
time, the history but for each reference's last row, what could not be read, and the watcher's account.
"""

from __future__ import annotations

import itertools
import random
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagekeep import Reader
from imagekeep.errors import ImagekeepError, ImageNotFoundError
from tests.torture.bench import Bench
from tests.torture.children import ChildError, ask
from tests.torture.commands import ASKING, READING, run
from tests.torture.report import Harm, Report
from tests.torture.sqlite_pages import places_of_columns
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HEADER = 100
CHUNK = 50

Flip = tuple[int, int]
"""An offset in a file, and the bit that is flipped there."""

WITNESSED = (
    *("alembic_version.", "images.image_key", "images.id", "images.chain_id", "configs.", "references."),
    *("pinned_refs.", "ref_cache.reference", "ref_cache.image_key"),
)
"""How the columns begin of which a flipped bit must always be found. So it must in every index."""


def flip(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Flip bits in so many copies of a store: anywhere, a tenth in its header, and as many in each column."""
    report = Report("flips", "files")
    bench = Bench(directory / "disk", seed)
    bench.directory.mkdir()
    path = ask(bench.store, directory / "whole.db")
    draw = random.Random(seed)
    size = path.stat().st_size
    if "anywhere" in (kinds or KINDS):
        _flip_each(report, path, [("", _anywhere(draw, size)) for _ in range(count)])
    if "columns" in (kinds or KINDS):
        _flip_each(report, path, _in_columns(draw, ask(places_of_columns, path), count))
    if "commands" in (kinds or KINDS):
        _command_each(report, bench, path, -(-count // 10))
    return report


KINDS = ("anywhere", "columns", "commands")


def _anywhere(draw: random.Random, size: int) -> list[Flip]:
    """Return a bit, or a few, of a file."""
    end = HEADER if draw.random() < 0.1 else size
    return [(draw.randrange(end), 1 << draw.randrange(8)) for _ in range(draw.choice((1, 1, 1, 2, 8)))]


def _in_columns(
    draw: random.Random, places: dict[str, list[int]], count: int
) -> Iterator[tuple[str, list[Flip]]]:
    """Give about so many bits in all, one at a time: as many of each column as the others have, or all it has."""
    for column, offsets in places.items():
        bits = [(offset, 1 << bit) for offset in offsets for bit in range(8)]
        yield from ((column, [bit]) for bit in draw.sample(bits, min(len(bits), -(-count // len(places)))))


def _flip_each(report: Report, path: Path, flips: Iterable[tuple[str, list[Flip]]]) -> None:
    """Flip the bits in a copy of its own each, and note what came of it."""
    waiting = iter(flips)
    while chunk := list(itertools.islice(waiting, CHUNK)):
        report.rounds += len(chunk)
        try:
            results = ask(_flip_some, path, chunk)
        except ChildError as error:
            report.add(Harm.HUNG if error.hung else Harm.CRASHED, str(error))
            continue
        for (column, flipped), (kind, what) in zip(chunk, results, strict=True):
            if kind in tuple(Harm):
                report.add(Harm(kind), f"bits {flipped} flipped, {column}: {what}")
                continue
            report.facts[kind] += 1
            if column and kind in UNFOUND:
                report.facts[f"unfound in {column.removesuffix(', type')}"] += 1
                if kind == UNFOUND[True] and (column.startswith(WITNESSED) or " in " in column):
                    report.add(Harm.BROKEN, f"bits {flipped} flipped, {column}: not found")


def _flip_some(whole: Path, chunk: list[tuple[str, list[Flip]]]) -> list[tuple[str, str]]:
    """Flip bits in copies of a store, and say of each what came of it."""
    path = whole.with_name("images.db")
    content = whole.read_bytes()
    path.write_bytes(content)
    before = answers(path)
    results = []
    for _, flips in chunk:
        _write_flipped(path, content, flips)
        results.append(_outcome(path, before))
    return results


def _write_flipped(path: Path, content: bytes, flips: list[Flip]) -> None:
    """Write a store with these bits flipped, and nothing beside it."""
    flipped = bytearray(content)
    for offset, bit in flips:
        flipped[offset] ^= bit
    for companion in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    path.write_bytes(flipped)
    path.chmod(0o600)


def _command_each(report: Report, bench: Bench, whole: Path, count: int) -> None:
    """Let a command meet flipped bits, so many times, half of them in a column: an answer or a named error."""
    content, places = whole.read_bytes(), ask(places_of_columns, whole)
    for _ in range(count):
        column = bench.draw.choice([*places])
        # The lowest bit is the one that makes bytes of a text.
        bit = (bench.draw.choice(places[column]), 1 << bench.draw.choice((0, 0, 0, *range(8))))
        flips = [bit] if bench.draw.random() < 0.5 else _anywhere(bench.draw, len(content))
        _write_flipped(bench.path, content, flips)
        outcome = run(bench.path, *bench.draw.choice((*READING, ASKING, *bench.writing())))
        report.rounds += 1
        report.facts[f"commands that ended with {outcome.code}"] += 1
        if outcome.crashed:
            report.add(Harm.HUNG if outcome.hung else Harm.CRASHED, f"bits {flips} flipped: {outcome}")


UNFOUND = ("without effect", "in what has no witness")


def _outcome(path: Path, before: tuple[Any, Any]) -> tuple[str, str]:
    """Return what came of flipped bits: a harm or none, and what was seen."""
    try:
        problems = list(broken_invariants(path))
        now = answers(path)
    except ImagekeepError as error:
        return "errors", str(error)
    except Exception:
        return Harm.CRASHED, traceback.format_exc()[-700:]
    if problems:
        return "found by db check", ""
    if now[0] != before[0]:
        return Harm.BROKEN, "another answer, which db check does not find"
    return UNFOUND[now[1] != before[1]], ""


def answers(path: Path) -> tuple[Any, Any]:
    """Return what a store says: what `db check` has a witness for, and the rest."""
    with Reader.open(path) as reader:
        images = reader.list()
        witnessed: dict[str, Any] = {
            "images": [replace(image, size=0) for image in images],
            "one by one": [replace(reader.get(image.id), size=0) for image in images],
            "truncated": [reader.get(image.id[7:19]).id for image in images],
            "streamed": [replace(image, size=0) for image in reader.iter()],
            "summaries": [replace(image, size=0) for image in reader.summaries()],
            "references": {name: (s.image_id, s.pinned) for name, s in reader.states().items()},
            "resolved": {name: reader.resolve(name) for image in images for name in image.references},
            "pinned": [(n, reader.is_pinned(i.id, n)) for i in images for n in i.references],
            "counts": reader.counts()[:3],
        }
        try:
            reader.resolve("docker.io/library/never:there")
        except ImageNotFoundError:
            witnessed["missing"] = True
        rest = {
            "sizes": [image.size for image in images],
            "states": reader.states(),
            "history": [reader.history(name) for image in images for name in image.references],
            "times": reader.counts(),
            "incomplete": reader.incomplete(),
            "watcher": reader.watcher(),
        }
    return witnessed, rest
