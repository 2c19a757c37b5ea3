"""What the tests of the database share: the paths of stores that are there, old, or yet to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.database.stores import thawed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be; there is none yet."""
    return tmp_path / "another.db"


@pytest.fixture
def old(path: Path) -> Path:
    """The frozen store of revision 0001, in WAL mode as imagekeep leaves it."""
    return thawed("0001", path)
