"""Tells what was measured: the table for people, and the same in JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from imagekeep.database.driver import DRIVER, sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.measure import Row

_COLUMNS = ("what", "figure", "noise", "target", "", "imagekeep", "baseline", "")


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "sqlite": f"{sqlite.sqlite_version} ({DRIVER})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def as_table(rows: Sequence[Row]) -> str:
    """Return what was measured on, and the rows as a table in Markdown."""
    return f"{_on_what()}\n\n{markdown([_COLUMNS, *map(_cells, rows)])}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines, of which the first is the heading, as a table in Markdown."""
    heading, *others = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *others))


def put_into(document: Path, part: str, text: str) -> None:
    """Put a text into a document, between the two comments that name the part."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise ValueError(f"{document} has no place for {part}")
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def _on_what() -> str:
    """Return what was measured on, in a sentence."""
    on = machine()
    return (
        f"Measured on {on['cores']} cores with a load of {on['load']}: Python {on['python']}, "
        f"SQLite {on['sqlite']}, {on['system']}."
    )


def as_line(row: Row) -> str:
    """Return one row on one line."""
    return "  ".join(cell for cell in _cells(row) if cell)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows, and what they were measured on, as JSON."""
    measured = [{**asdict(row), "verdict": row.verdict} for row in rows]
    return json.dumps({"machine": machine(), "rows": measured}, indent=1)


def _cells(row: Row) -> tuple[str, ...]:
    """Return the sqlite_pages of a row."""
    return (
        row.name,
        f"{row.figure.value:.3g}",
        f"±{row.figure.noise:.2g}",
        _target(row),
        row.verdict,
        duration(row.ours),
        duration(row.baseline),
        row.note,
    )


def _target(row: Row) -> str:
    """Return the target in words."""
    if row.at_least is not None:
        return f"≥ {row.at_least:g}"
    return f"≤ {row.at_most:g}" if row.at_most is not None else ""


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it."""
    if seconds is None:
        return ""
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
