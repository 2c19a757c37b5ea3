"""The benchmark still runs: on stores so small that its figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).parents[1]
BENCHMARK = CHECKOUT / "scripts/benchmark"


def measure(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark on tiny stores."""
    return subprocess.run(
        [sys.executable, BENCHMARK, "--tiny", "--directory", directory, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows_of(done: subprocess.CompletedProcess[str]) -> Sequence[dict[str, Any]]:
    """Return what was measured; where a target is missed the exit code is 1, which such figures may."""
    assert done.returncode in (0, 1), done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


@pytest.mark.parametrize("group", ["lookups", "opening"])
def test_a_group_is_measured(tmp_path: Path, group: str) -> None:
    rows = rows_of(measure(tmp_path, "--only", group, "-o", "json"))
    assert rows
    assert all(row["figure"]["value"] > 0 for row in rows)


def test_a_table_is_put_into_its_place_in_a_document(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    done = measure(tmp_path, "--only", "file size", "--document", str(document))
    assert document.read_text() == f"before\n<!-- table -->\n\n{done.stdout}\n<!-- end of table -->\nafter\n"
