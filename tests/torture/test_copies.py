"""Copies that are killed wherever they may be, and copies that another user tries to exchange."""

from __future__ import annotations

import pytest

from tests.torture.copies import KINDS
from tests.torture.harness import torture


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_its_name_only_when_it_is_whole_and_is_never_exchanged(kind: str) -> None:
    torture("copies", "--kind", kind, "--count", "10")
