"""Writers that are killed: what they acknowledged is there, and nobody has to repair anything."""

from __future__ import annotations

import pytest

from tests.torture.harness import torture
from tests.torture.kills import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_nothing_is_lost_or_broken(kind: str) -> None:
    torture("kills", "--kind", kind, "--count", "12")
