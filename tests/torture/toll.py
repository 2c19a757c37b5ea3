"""What an ordeal cost: how often it was run, and every harm that came of it."""

from __future__ import annotations

import enum
import time
from collections import Counter
from dataclasses import dataclass, field


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


@dataclass(slots=True)
class Toll:
    """One line of the table: an ordeal, how many `rounds` of it were run, and the harms with what was seen."""

    ordeal: str
    unit: str
    rounds: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    harms: list[tuple[Harm, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, harm: Harm, what: str) -> None:
        """Note a harm, and what was seen of it."""
        self.harms.append((harm, what))

    def line(self) -> str:
        """Return the line of the table."""
        counts = Counter(harm for harm, _ in self.harms)
        harms = ", ".join(f"{counts[harm]} {harm}" for harm in Harm)
        facts = ", ".join(f"{number:,} {name}" for name, number in sorted(self.facts.items()))
        seconds = f"{time.monotonic() - self.began:.0f} s"
        what = f"{self.ordeal:<12} {self.rounds:>7,} {self.unit:<15}"
        return f"{what} {harms}   ({'; '.join(filter(None, [facts, seconds]))})"
