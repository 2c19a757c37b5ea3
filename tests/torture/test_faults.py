"""Files that are no stores, and disks and systems that give no more. What needs root is left out without it."""

from __future__ import annotations

import pytest

from tests.torture.faults import FAULTS
from tests.torture.harness import torture


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_named_error_and_does_no_harm(fault: str) -> None:
    if "1 skipped" in torture("faults", "--kind", fault, "--count", "1"):
        pytest.skip(f"{fault}: making it needs root")
