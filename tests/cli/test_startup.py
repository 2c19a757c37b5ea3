"""Reading commands import little, so that they start in milliseconds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.session import LONGEST, surroundings

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = (
    "sqlalchemy",
    "alembic",
    "grpc",
    "google.protobuf",
    "asyncio",
    "concurrent.futures",
    "logging",
    "tarfile",
)

PROGRAM = """
import sys
from imagekeep.cli import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def imported_by(directory: Path, *arguments: str) -> set[str]:
    """Return the modules that a successful command has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=directory,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["images"],
        ["images", "-q"],
        ["images", "-o", "json"],
        ["image", "inspect", "busybox:1.36"],
        ["image", "exists", "busybox:1.36"],
        ["image", "history", "busybox:1.36"],
        ["db", "info"],
        ["db", "check"],
        ["db", "backup"],
        ["--help"],
        ["db", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_reading_imports_nothing_heavy(directory: Path, arguments: list[str]) -> None:
    assert imported_by(directory, *arguments).intersection(HEAVY) == set()


@pytest.mark.parametrize("arguments", [["images"], ["image", "exists", "busybox:1.36"]], ids=" ".join)
def test_common_commands_import_no_document_parsers(directory: Path, arguments: list[str]) -> None:
    assert (
        imported_by(directory, *arguments).intersection({"json", "imagekeep.oci.config", "hashlib"}) == set()
    )
