"""Counts that tests report, summed over all tests and workers and printed at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PREFIX = "tally: "
LONGEST = "longest: "


def count(request: pytest.FixtureRequest, name: str, number: int) -> None:
    """Add to a count that is printed after the last test."""
    request.node.user_properties.append((PREFIX + name, number))


def measure(request: pytest.FixtureRequest, name: str, seconds: float) -> None:
    """Report a time; the longest of each name is printed after the last test."""
    request.node.user_properties.append((LONGEST + name, seconds))


def print_tally(reporter: pytest.TerminalReporter) -> None:
    """Print every count and every longest time, where any test has reported one."""
    totals: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for report in reporter.getreports("passed"):
        for name, number in report.user_properties:
            if name.startswith(PREFIX):
                totals[name.removeprefix(PREFIX)] += int(str(number))
            elif name.startswith(LONGEST):
                longest[name] = max(longest.get(name, 0.0), float(str(number)))
    if totals or longest:
        reporter.section("counts")
    for name, total in sorted(totals.items()):
        reporter.line(f"{total:>8,}  {name}")
    for name, seconds in sorted(longest.items()):
        reporter.line(f"{seconds * 1000:>8,.1f}  ms at most: {name.removeprefix(LONGEST)}")
