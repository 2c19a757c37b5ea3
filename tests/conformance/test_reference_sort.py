"""The order of references: the answers of distribution/reference's Sort."""

from __future__ import annotations

import pytest

from imagekeep.reference import sort_key, sort_references
from tests.conformance.data import Case, cases

CASES = cases("reference_sort")
each_list = pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])


@each_list
def test_the_order_is_that_of_sort(case: Case) -> None:
    assert [sort_key(name)[1] for name in sort_references(case["in"])] == case["out"]


@each_list
def test_names_that_sort_rewrites_are_kept_as_written(case: Case) -> None:
    assert sorted(sort_references(case["in"])) == sorted(case["in"])
