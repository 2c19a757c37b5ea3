"""The programs that make and read real images; a test without its program is skipped, but never in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def require(tool: str) -> str:
    """Return the path of a program; skip the test where it is missing, or fail it where CI is set."""
    if found := shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return found
    message = f"{tool} is not installed; .ci/run names the Debian packages that the tests need"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def run(tool: str, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run a program, as `require` finds it, and return its standard output; fail with its standard error."""
    done = subprocess.run(
        [require(tool), *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{tool} {' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace')}")
    return done.stdout
