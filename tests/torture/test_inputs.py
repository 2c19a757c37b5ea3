"""Hostile inputs, at a modest count of each kind."""

from __future__ import annotations

import pytest

from tests.torture.bombs import BOMBS
from tests.torture.harness import torture
from tests.torture.inputs import KINDS


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "bombs"), *BOMBS])
def test_whatever_comes_is_answered_or_refused_soon_and_in_little_memory(kind: str) -> None:
    torture("inputs", "--kind", kind, "--count", "200")
