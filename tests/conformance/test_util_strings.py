"""The CRI plugin's merging of string slices; imagekeep compares exactly."""

from __future__ import annotations

import pytest

from imagekeep.reference import sort_key, sort_references
from tests.conformance.data import Case, cases, documents

CASES = cases("util_strings")
each_pair = pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
FOLD_PAIRS = [pair for _, document in documents("util_strings") for pair in document["equal_fold_pairs"]]


@each_pair
def test_a_merge_keeps_each_spelling_once(case: Case) -> None:
    assert sorted(sort_references({*case["a"], *case["b"]})) == case["merge"]


@each_pair
def test_a_merge_is_in_the_order_of_sort(case: Case) -> None:
    merged = sort_references({*case["a"], *case["b"]})
    assert [sort_key(name)[1] for name in merged] == case["merged_sorted"]


@pytest.mark.parametrize("pair", FOLD_PAIRS, ids=ascii)
def test_names_that_go_considers_equal_stay_two_references(pair: list[str]) -> None:
    assert sorted(sort_references(pair)) == sorted(pair)
    assert sort_key(pair[0]) != sort_key(pair[1])
