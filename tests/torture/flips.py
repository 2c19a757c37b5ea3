"""Flipped bits in a store file: an imagekeep error, a finding of `db check`, or no difference.

What `db check` cannot cross-check is counted apart: an image's size, what a source has, a use, a time, the history
except each reference's last row, incomplete references, and the watcher status.
"""

from __future__ import annotations

import itertools
import random
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagekeep import Reader
from imagekeep.errors import ImagekeepError, ImageNotFoundError
from tests.torture.children import ASKING, READING, ChildError, ask, run
from tests.torture.report import Harm, Report
from tests.torture.sandbox import Sandbox
from tests.torture.sqlite_pages import places_of_columns
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HEADER = 100
CHUNK = 50

Flip = tuple[int, int]
"""An offset in a file, and the bit to flip."""

VERIFIABLE = (
    *(
        "alembic_version.",
        "images.image_key",
        "images.id",
        "images.chain_id",
        "images.config_key",
        "references.",
    ),
    *("pinned_refs.", "ref_cache.reference", "ref_cache.image_key", "ref_cache.target_digest"),
    *("ref_cache.manifest_key", "documents.", "blobs.blob_key", "blobs.digest", "blobs.layer_uses"),
    *("target_manifests.", "manifests.", "manifest_layers.", "chains.chain_id", "chains.layer_uses"),
)
"""Prefixes of the columns in which every flipped bit must be detected, as in every index."""


def flip(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Flip bits in copies of a store: `count` anywhere, a tenth of them in the header, and `count` in columns."""
    report = Report("flips", "files")
    sandbox = Sandbox(directory / "disk", seed)
    sandbox.directory.mkdir()
    path = ask(sandbox.store, directory / "whole.db")
    draw = random.Random(seed)
    size = path.stat().st_size
    if "anywhere" in (kinds or KINDS):
        _flip_all(report, path, [("", _anywhere(draw, size)) for _ in range(count)])
    if "columns" in (kinds or KINDS):
        _flip_all(report, path, _in_columns(draw, ask(places_of_columns, path), count))
    if "commands" in (kinds or KINDS):
        _run_commands(report, sandbox, path, -(-count // 10))
    return report


KINDS = ("anywhere", "columns", "commands")


def _anywhere(draw: random.Random, size: int) -> list[Flip]:
    """Return one or a few bits of a file."""
    end = HEADER if draw.random() < 0.1 else size
    return [(draw.randrange(end), 1 << draw.randrange(8)) for _ in range(draw.choice((1, 1, 1, 2, 8)))]


def _in_columns(
    draw: random.Random, places: dict[str, list[int]], count: int
) -> Iterator[tuple[str, list[Flip]]]:
    """Yield about `count` bits, one at a time, evenly over the columns."""
    for column, offsets in places.items():
        bits = [(offset, 1 << bit) for offset in offsets for bit in range(8)]
        yield from ((column, [bit]) for bit in draw.sample(bits, min(len(bits), -(-count // len(places)))))


def _flip_all(report: Report, path: Path, flips: Iterable[tuple[str, list[Flip]]]) -> None:
    """Flip each of the bits in its own copy, and record the result."""
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
            if column and kind in UNDETECTED:
                report.facts[f"undetected in {column.removesuffix(', type')}"] += 1
                if kind == UNDETECTED[True] and (column.startswith(VERIFIABLE) or " in " in column):
                    report.add(Harm.BROKEN, f"bits {flipped} flipped, {column}: not found")


def _flip_some(whole: Path, chunk: list[tuple[str, list[Flip]]]) -> list[tuple[str, str]]:
    """Flip bits in copies of a store; return the result of each."""
    path = whole.with_name("images.db")
    content = whole.read_bytes()
    path.write_bytes(content)
    before = answers(path)
    results = []
    for _, flips in chunk:
        _write_flipped(path, content, flips)
        results.append(_result(path, before))
    return results


def _write_flipped(path: Path, content: bytes, flips: list[Flip]) -> None:
    """Write a store with these bits flipped, without companions."""
    flipped = bytearray(content)
    for offset, bit in flips:
        flipped[offset] ^= bit
    for companion in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    path.write_bytes(flipped)
    path.chmod(0o600)


def _run_commands(report: Report, sandbox: Sandbox, whole: Path, count: int) -> None:
    """Run `count` commands on flipped bits, half of them in a column: each is an answer or a named error."""
    content, places = whole.read_bytes(), ask(places_of_columns, whole)
    for _ in range(count):
        column = sandbox.draw.choice([*places])
        # The lowest bit of a serial type turns a text into a blob.
        bit = (sandbox.draw.choice(places[column]), 1 << sandbox.draw.choice((0, 0, 0, *range(8))))
        flips = [bit] if sandbox.draw.random() < 0.5 else _anywhere(sandbox.draw, len(content))
        _write_flipped(sandbox.path, content, flips)
        result = run(sandbox.path, *sandbox.draw.choice((*READING, ASKING, *sandbox.writing_commands())))
        report.rounds += 1
        report.facts[f"commands that ended with {result.code}"] += 1
        if result.crashed:
            report.add(Harm.HUNG if result.hung else Harm.CRASHED, f"bits {flips} flipped: {result}")


UNDETECTED = ("without effect", "in what cannot be cross-checked")


def _result(path: Path, before: tuple[Any, Any]) -> tuple[str, str]:
    """Return the result of flipped bits, a harm or another, and a description."""
    try:
        problems = list(broken_invariants(path))
        now = answers(path)
    except ImagekeepError as error:
        return "errors", str(error)
    except Exception:
        return Harm.CRASHED, traceback.format_exc()[-700:]
    if problems:
        return "detected by db check", ""
    if now[0] != before[0]:
        return Harm.BROKEN, "another answer, which db check does not detect"
    return UNDETECTED[now[1] != before[1]], ""


def answers(path: Path) -> tuple[Any, Any]:
    """Return a store's answers: those that `db check` can verify, and the rest."""
    with Reader.open(path) as reader:
        images = reader.list()
        verifiable: dict[str, Any] = {
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
            verifiable["missing"] = True
        rest = {
            "sizes": [image.size for image in images],
            "states": reader.states(),
            "history": [reader.history(name) for image in images for name in image.references],
            "times": reader.counts(),
            "incomplete": reader.incomplete(),
            "watcher": reader.watcher(),
        }
    return verifiable, rest
