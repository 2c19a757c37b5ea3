"""Runs scripts/torture for the tests, in a process with one thread of its own, from which children are forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.torture.report import Harm

CHECKOUT = Path(__file__).parents[2]


def torture(*arguments: str) -> str:
    """Run a scenario at a modest count and return what is printed: a table whose line must name no harm."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, heading, line, *_ = done.stdout.splitlines()
    harms = dict(zip(heading.split(), line.split(), strict=True))
    assert [harms[harm] for harm in Harm] == ["0"] * 4
    return done.stdout
