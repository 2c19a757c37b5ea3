"""Renders the results as a Markdown table or as JSON."""

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

_COLUMNS = ("measurement", "figure", "noise", "target", "verdict", "imagekeep", "baseline", "note")


def machine() -> dict[str, Any]:
    """Return the machine, its load and the versions."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "sqlite": f"{sqlite.sqlite_version} ({DRIVER})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def as_table(rows: Sequence[Row]) -> str:
    """Return a sentence about the machine, and the rows as a Markdown table."""
    on = machine()
    heading = (
        f"Measured on {on['cores']} cores with a load of {on['load']}: Python {on['python']}, "
        f"SQLite {on['sqlite']}, {on['system']}."
    )
    return f"{heading}\n\n{markdown([_COLUMNS, *map(_cells, rows)])}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return lines as a Markdown table; the first is its heading."""
    heading, *others = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *others))


def put_into(document: Path, part: str, text: str) -> None:
    """Replace the text between the two comments of a document that name the part."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise ValueError(f"{document}: no <!-- {part} --> comment")
    document.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def as_line(row: Row) -> str:
    """Return one row on one line."""
    return "  ".join(cell for cell in _cells(row) if cell)


def as_json(rows: Sequence[Row]) -> str:
    """Return the machine and the rows as JSON."""
    measured = [{**asdict(row), "verdict": row.verdict} for row in rows]
    return json.dumps({"machine": machine(), "rows": measured}, indent=1)


def _cells(row: Row) -> tuple[str, ...]:
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
    if row.at_least is not None:
        return f"≥ {row.at_least:g}"
    return f"≤ {row.at_most:g}" if row.at_most is not None else ""


def duration(seconds: float | None) -> str:
    """Return a duration in s, ms or µs."""
    if seconds is None:
        return ""
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
