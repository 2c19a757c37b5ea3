"""Flipped bits in a store's file: an error that is ours, a finding of `db check`, or no difference at all.

What `db check` has no second witness for is told apart, and counted: a size, a target's digest and platform, a
time, the history but for each reference's last row, what could not be read, and the watcher's account.
"""

from __future__ import annotations

import random
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagekeep import Reader
from imagekeep.errors import ImagekeepError, ImageNotFoundError
from tests.torture.bench import Bench
from tests.torture.children import ChildError, ask
from tests.torture.survey import broken_invariants
from tests.torture.toll import Harm, Toll

if TYPE_CHECKING:
    from pathlib import Path

HEADER = 100
CHUNK = 50


def flip(folder: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Toll:
    """Flip a bit, or a few, of a copy of a store, so many times; a tenth of them in its header."""
    toll = Toll("flipped bits", "files")
    whole = ask(_prepare, folder, seed)
    draw = random.Random(seed)
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        toll.rounds += number
        try:
            for kind, what in ask(_flip_some, folder, whole, draw.getrandbits(30), number):
                if kind in tuple(Harm):
                    toll.add(Harm(kind), what)
                else:
                    toll.facts[kind] += 1
        except ChildError as error:
            toll.add(Harm.HUNG if error.hung else Harm.CRASHED, str(error))
    return toll


def _prepare(folder: Path, seed: int) -> bytes:
    return Bench(folder, seed).store(folder / "whole.db").read_bytes()


def _flip_some(folder: Path, whole: bytes, seed: int, count: int) -> list[tuple[str, str]]:
    """Flip bits in so many copies, and say of each what came of it."""
    draw = random.Random(seed)
    path = folder / "images.db"
    path.write_bytes(whole)
    witnessed, unwitnessed = answers(path)
    results = []
    for _ in range(count):
        flipped = bytearray(whole)
        end = HEADER if draw.random() < 0.1 else len(whole)
        places = [(draw.randrange(end), 1 << draw.randrange(8)) for _ in range(draw.choice((1, 1, 1, 2, 8)))]
        for offset, bit in places:
            flipped[offset] ^= bit
        for companion in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + companion).unlink(missing_ok=True)
        path.write_bytes(flipped)
        what = f"bits {places} flipped"
        try:
            problems = list(broken_invariants(path))
            said, more = answers(path)
        except ImagekeepError:
            results.append(("errors", what))
            continue
        except Exception:
            results.append((Harm.CRASHED, traceback.format_exc()[-700:]))
            continue
        if problems:
            results.append(("found by db check", what))
        elif said != witnessed:
            results.append((Harm.BROKEN, f"{what}: another answer, which db check does not find"))
        else:
            results.append(("without effect" if more == unwitnessed else "in what has no witness", what))
    return results


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
