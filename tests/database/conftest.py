"""Paths of new and old stores for the database tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.database.stores import thawed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store that does not exist yet."""
    return tmp_path / "another.db"


@pytest.fixture
def old(path: Path) -> Path:
    """Return the path of the frozen store of revision 0001, in WAL mode."""
    return thawed("0001", path)
