"""Times imagekeep and its baseline in turns, and takes the median of the ratios."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MISSED = "MISSED"

ROUNDS = 9
"""Turns of which a figure is the median."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some rounds, and its noise: half the interquartile range."""

    value: float
    noise: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Return the figure of some rounds."""
        if len(values) == 1:
            return cls(values[0], 0.0)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), (high - low) / 2)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `ours` and `baseline` are seconds per operation, if the figure is a ratio of times. The target is `at_least` or
    `at_most`; a figure without a target has neither.
    """

    name: str
    figure: Figure
    at_least: float | None = None
    at_most: float | None = None
    ours: float | None = None
    baseline: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return `met`, `within noise` or `MISSED`; empty without a target."""
        value, noise = self.figure.value, self.figure.noise
        if self.at_least is not None:
            short = self.at_least - value
        elif self.at_most is not None:
            short = value - self.at_most
        else:
            return ""
        if short <= 0:
            return "met"
        return "within noise" if short <= noise else MISSED


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turns(
    ours: Callable[[], object], baseline: Callable[[], object], rounds: int = ROUNDS
) -> list[tuple[float, float]]:
    """Return the seconds of both actions in each round; they alternate in going first, and round 0 is dropped."""
    taken = []
    for turn in range(rounds + 1):
        if turn % 2:
            mine, theirs = timed(ours), timed(baseline)
        else:
            theirs, mine = timed(baseline), timed(ours)
        taken.append((mine, theirs))
    return taken[1:]


def speed(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    operations: int,
    *,
    at_least: float | None = None,
    rounds: int = ROUNDS,
    note: str = "",
) -> Row:
    """Measure the speed of ours as a ratio to the baseline's; above 1 is faster."""
    taken = in_turns(ours, baseline, rounds)
    figure = Figure.of([theirs / mine for mine, theirs in taken])
    return replace(_row(name, figure, taken, operations, note), at_least=at_least)


def cost(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    operations: int,
    *,
    at_most: float | None = None,
    rounds: int = ROUNDS,
    note: str = "",
) -> Row:
    """Measure the cost of ours as a ratio to the baseline's; below 1 is cheaper."""
    taken = in_turns(ours, baseline, rounds)
    figure = Figure.of([mine / theirs for mine, theirs in taken])
    return replace(_row(name, figure, taken, operations, note), at_most=at_most)


def _row(name: str, figure: Figure, taken: list[tuple[float, float]], operations: int, note: str) -> Row:
    mine, theirs = (statistics.median(seconds) / operations for seconds in zip(*taken, strict=True))
    return Row(name, figure, ours=mine, baseline=theirs, note=note)
