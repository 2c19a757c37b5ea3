"""Processes that write and read one file at once."""

from __future__ import annotations

from tests.torture.harness import torture


def test_eight_writers_and_eight_readers_find_nothing_lost_stale_or_torn() -> None:
    torture("processes", "--count", "3")
