"""Counts that tests report, summed over all tests and workers and printed at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PREFIX = "tally: "


def count(request: pytest.FixtureRequest, name: str, number: int) -> None:
    """Add to a count that is printed after the last test."""
    request.node.user_properties.append((PREFIX + name, number))


def print_tally(reporter: pytest.TerminalReporter) -> None:
    """Print every count, where any test has reported one."""
    totals: Counter[str] = Counter()
    for report in reporter.getreports("passed"):
        for name, number in report.user_properties:
            if name.startswith(PREFIX):
                totals[name.removeprefix(PREFIX)] += int(str(number))
    if totals:
        reporter.section("counts")
    for name, total in sorted(totals.items()):
        reporter.line(f"{total:>8,}  {name}")
