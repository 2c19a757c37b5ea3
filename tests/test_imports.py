"""Imports: a daemon loads neither SQLAlchemy nor alembic, which take 40 MB and 300 ms."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LOADED = "print(sorted({'sqlalchemy', 'alembic'} & set(sys.modules)))"


def loaded_by(program: str, *arguments: str | Path) -> str:
    """Run a program in a process of its own; return which of the two it has loaded."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{LOADED}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "module",
    ["imagekeep", "store", "reader", "sync", "watch", "diff", "cri.server", "database.create", "fleet"],
)
def test_a_module_of_a_daemon_loads_neither_sqlalchemy_nor_alembic(module: str) -> None:
    name = module if module == "imagekeep" else f"imagekeep.{module}"
    assert loaded_by(f"import {name}") == "[]"


def test_a_store_is_opened_read_and_written_without_sqlalchemy(store_path: Path) -> None:
    program = (
        "from imagekeep import Store\nfrom tests.model import IMAGES\n"
        "with Store.open(sys.argv[1]) as store:\n    store.apply('a', IMAGES[0]); store.list()"
    )
    assert loaded_by(program, store_path) == "[]"


def test_a_store_is_made_without_sqlalchemy(tmp_path: Path) -> None:
    program = "from imagekeep import Store\nStore.open(sys.argv[1]).close()"
    assert loaded_by(program, tmp_path / "images.db") == "[]"


@pytest.mark.parametrize(
    "command", [["sync"], ["watch", "--help"], ["serve", "--help"], ["images"], ["db", "check"]]
)
def test_a_command_loads_neither_sqlalchemy_nor_alembic(tmp_path: Path, command: list[str]) -> None:
    program = (
        "from imagekeep.cli import main\n"
        "main(['--store', sys.argv[1], '--source', 'oci:tests/data/layout', 'sync', '-q'])\n"
        f"main(['--store', sys.argv[1], '--source', 'oci:tests/data/layout', *{command!r}])"
    )
    assert loaded_by(program, tmp_path / "images.db") == "[]"
