"""Migrations that are killed wherever they may be, and several of one file at once."""

from __future__ import annotations

import pytest

from tests.torture.harness import torture
from tests.torture.moves import STARTS


@pytest.mark.parametrize("start", STARTS)
def test_a_migration_that_is_killed_or_not_alone_leaves_the_old_store_or_the_new(start: str) -> None:
    torture("migrations", "--kind", start, "--count", "2")
