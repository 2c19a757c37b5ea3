"""What a scenario cost: how often it was run, and every harm that came of it."""

from __future__ import annotations

import enum
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Harm(enum.StrEnum):
    """The four ways in which the store can fail."""

    LOST = "lost"
    """A change that was acknowledged is not there, or a stale answer stands on top of it."""

    BROKEN = "broken"
    """An invariant does not hold, half of a change is seen, or a file is not as it must be."""

    HUNG = "hung"
    """A process did not end in time."""

    CRASHED = "crashed"
    """An error reached a caller that none of ours is, or that should not have come."""


HEADING = f"{'scenario':<12}{'count':>9} {'of':<8}{''.join(f'{harm:>9}' for harm in Harm)}{'seconds':>9}"


@dataclass(slots=True)
class Report:
    """One line of the table: a scenario, its `rounds`, their unit, and the harms with what was seen."""

    scenario: str
    unit: str
    rounds: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    harms: list[tuple[Harm, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, harm: Harm, what: str) -> None:
        """Note a harm, and what was seen of it."""
        self.harms.append((harm, what))

    def line(self) -> str:
        """Return the line of the table, beneath `HEADING`."""
        counts = Counter(harm for harm, _ in self.harms)
        harms = "".join(f"{counts[harm]:>9,}" for harm in Harm)
        seconds = time.monotonic() - self.began
        return f"{self.scenario:<12}{self.rounds:>9,} {self.unit:<8}{harms}{seconds:>9,.0f}"

    def notes(self) -> Iterator[str]:
        """Give what else was counted, and each harm with how often it was seen, the most frequent ten."""
        if self.facts:
            yield "; ".join(f"{number:,} {name}" for name, number in sorted(self.facts.items()))
        for (harm, what), times in Counter(self.harms).most_common(10):
            yield f"{times} times {harm}: {what[-1000:]}"
