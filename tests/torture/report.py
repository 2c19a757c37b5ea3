"""The result of a scenario: its number of rounds, and every harm."""

from __future__ import annotations

import enum
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.torture.children import ChildError, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Harm(enum.StrEnum):
    """The four ways in which a store can fail."""

    LOST = "lost"
    """An acknowledged change is missing, or hidden by a stale answer."""

    BROKEN = "broken"
    """An invariant is broken, half a change is visible, or a file is not as it must be."""

    HUNG = "hung"
    """A process did not end in time."""

    CRASHED = "crashed"
    """An unexpected error, or one that is not imagekeep's, reached a caller."""


Seen = tuple[Harm, str]
"""A harm, and what was seen."""

HEADING = f"{'scenario':<12}{'count':>9} {'of':<8}{''.join(f'{harm:>9}' for harm in Harm)}{'seconds':>9}"


@dataclass(slots=True)
class Report:
    """One line of the table: a scenario, its number of rounds and their unit, and the harms."""

    scenario: str
    unit: str
    rounds: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    harms: list[tuple[Harm, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, harm: Harm, what: str) -> None:
        """Record a harm and its description."""
        self.harms.append((harm, what))

    def survey(self, question: Callable[..., list[Seen]], *arguments: object, about: str = "") -> None:
        """Record the harms that a question finds, in a process of its own, which may hang or crash itself."""
        try:
            seen = ask(question, *arguments)
        except ChildError as error:
            seen = [(Harm.HUNG if error.hung else Harm.CRASHED, str(error))]
        for harm, what in seen:
            self.add(harm, f"{about}: {what}" if about else what)

    def line(self) -> str:
        """Return the line of the table, below `HEADING`."""
        counts = Counter(harm for harm, _ in self.harms)
        harms = "".join(f"{counts[harm]:>9,}" for harm in Harm)
        seconds = time.monotonic() - self.began
        return f"{self.scenario:<12}{self.rounds:>9,} {self.unit:<8}{harms}{seconds:>9,.0f}"

    def notes(self) -> Iterator[str]:
        """Yield the other counts, and the ten most frequent harms."""
        if self.facts:
            yield "; ".join(f"{number:,} {name}" for name, number in sorted(self.facts.items()))
        for (harm, what), times in Counter(self.harms).most_common(10):
            yield f"{times} times {harm}: {what[-1000:]}"
