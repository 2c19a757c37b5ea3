"""Clients that take what they can from a CRI server."""

from __future__ import annotations

import pytest

from tests.torture.clients import ATTACKS
from tests.torture.harness import torture


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_keeps_no_other_client_from_its_answers(attack: str) -> None:
    torture("clients", "--kind", attack, "--count", "1")
