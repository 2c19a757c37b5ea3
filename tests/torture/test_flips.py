"""Bits that flipped in a store's file."""

from __future__ import annotations

import pytest

from tests.torture.flips import KINDS
from tests.torture.harness import torture


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_an_error_a_finding_or_changes_no_answer_that_has_a_witness(kind: str) -> None:
    torture("flips", "--kind", kind, "--count", "300")
