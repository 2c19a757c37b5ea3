"""Processes that fork, and stores that are replaced, while they are in use."""

from __future__ import annotations

from tests.torture.harness import torture


def test_children_of_a_busy_process_lose_nothing() -> None:
    torture("forks", "--count", "40")


def test_a_store_that_is_replaced_all_the_time_loses_nothing() -> None:
    torture("replacements", "--count", "3")
