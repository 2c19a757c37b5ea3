"""Chain ids: the answers of image-spec's identity package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.oci.image import chain_id, chain_ids
from tests.conformance.data import cases

if TYPE_CHECKING:
    from tests.conformance.data import Case

CASES = [pytest.param(case, id=name) for name, case in cases("chainid")]
WITH_EACH = [pytest.param(case, id=name) for name, case in cases("chainid") if "chain_ids" in case]


@pytest.mark.parametrize("case", CASES)
def test_layers_have_the_chain_id_that_go_computed(case: Case) -> None:
    assert chain_id(case["diff_ids"] or []) == case["chain_id"]


@pytest.mark.parametrize("case", WITH_EACH)
def test_each_layer_has_the_chain_id_that_go_computed(case: Case) -> None:
    assert chain_ids(case["diff_ids"] or []) == (case["chain_ids"] or [])
