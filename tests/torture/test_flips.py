"""Bits that flipped in a store's file."""

from __future__ import annotations

from tests.torture.harness import torture


def test_a_flipped_bit_is_an_error_a_finding_or_changes_no_answer_that_has_a_witness() -> None:
    torture("flips", "--count", "400")
