"""Runs scripts/torture for the tests, in a process with one thread of its own, from which children are forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "torture"
UNHARMED = "0 lost, 0 broken, 0 hung, 0 crashed"


def torture(*arguments: str) -> str:
    """Run an ordeal at a modest count and return the line of its table, which must name no harm."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert UNHARMED in done.stdout
    return done.stdout
