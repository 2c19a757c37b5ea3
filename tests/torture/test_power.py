"""Power cuts: what was acknowledged was synced before, and what was not synced does no harm."""

from __future__ import annotations

import pytest

from tests.tools import require
from tests.torture.harness import torture
from tests.torture.recorded import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_after_a_power_cut_at_any_moment_nothing_is_lost_or_broken(scenario: str) -> None:
    require("cc")
    torture("power", "--kind", scenario, "--count", "60")
