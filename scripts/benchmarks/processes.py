"""Measures concurrent processes: reading, writing, and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Figure, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIDE_BY_SIDE = 4
ROUNDS = 5

Part = tuple[str, ...]
"""A module of this package that runs as a program, and its arguments."""


def run(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Run child processes concurrently, started once all are ready; return the report of each."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    children = [
        subprocess.Popen(  # noqa: S603 - this Python, and modules that stand beside this one
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for module, *arguments in parts
    ]
    try:
        for child in children:
            _pipe(child.stdout).readline()
        for child in children:
            print("go", file=_pipe(child.stdin), flush=True)
        return [json.loads(child.communicate()[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


def _pipe(pipe: Any) -> Any:
    if pipe is None:
        raise ValueError("the child has no pipe")
    return pipe


def reading(path: Path, count: int) -> Iterator[Row]:
    """Measure the throughput of four reading processes against one, for imagekeep and the bare driver."""
    ratios: list[float] = []
    ratios_bare: list[float] = []
    alone = []
    for _ in range(ROUNDS):
        for role, kept in (("read", ratios), ("read-bare", ratios_bare)):
            one = _each_second(run([("child", role, str(path))]))
            four = _each_second(run([("child", role, str(path))] * SIDE_BY_SIDE))
            kept.append(four / one)
            if role == "read":
                alone.append(one)
    bare = Figure.of(ratios_bare)
    yield Row(
        f"{SIDE_BY_SIDE} processes reading by truncated id against 1 ({count:,} images)",
        Figure.of(ratios),
        at_least=_where_each_has_a_core(2.8),
        ours=1 / Figure.of(alone).value,
        note=f"bare {bare.value:.2f} ± {bare.noise:.2f}",
    )


def _where_each_has_a_core(target: float) -> float | None:
    """Return the target, or None if there are too few cores for it to mean anything."""
    return target if len(os.sched_getaffinity(0)) >= SIDE_BY_SIDE else None


def _each_second(said: list[dict[str, Any]]) -> float:
    """Return the operations per second of all children together."""
    return float(sum(child["each_second"] for child in said))


def reading_and_writing(path: Path, directory: Path) -> Iterator[Row]:
    """Measure the latency of readers beside a writer that never pauses."""
    copy = Path(shutil.copy(path, directory / "shared.db"))
    ratios, locked, p50 = [], 0, []
    try:
        for turn in range(ROUNDS):
            writer = ("writer", str(copy), str(20_000_000 + 10_000 * turn))
            said = run([*[("child", "read", str(copy))] * (SIDE_BY_SIDE - 1), writer])
            locked += sum(child["locked"] for child in said)
            readers = said[:-1]
            ratios += [child["p99"] / child["p50"] for child in readers]
            p50 += [child["p50"] for child in readers]
    finally:
        _remove(copy)
    yield Row(
        "3 readers beside a busy writer: p99 / p50", Figure.of(ratios), at_most=_where_each_has_a_core(5)
    )
    yield Row("3 readers beside a busy writer: lock errors", Figure(locked, 0), at_most=0)


def writing(path: Path, directory: Path) -> Iterator[Row]:
    """Measure the longest wait of four processes that write continuously."""
    copy = Path(shutil.copy(path, directory / "shared.db"))
    longest, locked, alone, together = [], 0, [], []
    try:
        for turn in range(ROUNDS):
            first = 30_000_000 + 100_000 * turn
            alone.append(_each_second(run([("writer", str(copy), str(first))])))
            said = run([("writer", str(copy), str(first + 10_000 * n)) for n in range(1, SIDE_BY_SIDE + 1)])
            locked += sum(child["locked"] for child in said)
            longest.append(max(child["longest"] for child in said) * 1000)
            together.append(_each_second(said))
    finally:
        _remove(copy)
    speeds = f"{Figure.of(together).value:.0f} updates per second; one process {Figure.of(alone).value:.0f}"
    yield Row(
        f"{SIDE_BY_SIDE} processes writing: longest wait, ms", Figure.of(longest), at_most=250, note=speeds
    )
    yield Row(f"{SIDE_BY_SIDE} processes writing: lock errors", Figure(locked, 0), at_most=0)


def memory(small: tuple[Path, int], large: tuple[Path, int]) -> Iterator[Row]:
    """Measure the resident memory of a process that reads a large store, against one that reads a small one."""
    names = {
        "memory": "resident memory after open, resolve and get",
        "iterate": "peak resident memory during iter()",
    }
    for role, name in names.items():
        few, many = (
            [run([("child", role, str(path))])[0]["resident"] for _ in range(ROUNDS)]
            for path, _ in (small, large)
        )
        yield Row(
            f"{name}: {large[1]:,} images against {small[1]:,}",
            Figure.of([much / little for much, little in zip(many, few, strict=True)]),
            at_most=1.2,
            note=f"{Figure.of(many).value / 1024:.1f} MB, {Figure.of(few).value / 1024:.1f} MB",
        )


def _remove(store: Path) -> None:
    """Remove a store and its companion files."""
    for file in store.parent.glob(f"{store.name}*"):
        file.unlink()
