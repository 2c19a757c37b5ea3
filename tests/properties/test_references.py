"""References: printing and parsing, and the order in SQL and Python."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from imagekeep.internals import apply_all
from imagekeep.reference import Reference, parse_any, parse_normalized, sort_references
from tests.model import IMAGES, REFERENCES

if TYPE_CHECKING:
    from tests.properties.conftest import NewStores

components = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)?", fullmatch=True).filter(
    lambda text: len(text) < 20
)
domains = st.sampled_from(
    ["docker.io", "localhost", "registry.test", "registry.test:5000", "Upper.test", "[::1]:80"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.sampled_from([image.id for image in IMAGES])
named = st.builds(
    Reference,
    domain=domains,
    path=st.lists(components, min_size=2, max_size=3).map("/".join),
    tag=st.just("") | tags,
    digest=st.just("") | digests,
)
names = st.text("ab:@/.É \x00\n", min_size=1, max_size=6) | named.map(str) | st.sampled_from(REFERENCES)


@given(named)
def test_a_reference_parses_to_itself_when_printed(reference: Reference) -> None:
    assert parse_normalized(str(reference)) == reference
    assert parse_any(str(reference)) == reference


@given(st.lists(names, max_size=8))
def test_sorting_is_idempotent(given_names: list[str]) -> None:
    once = sort_references(given_names)
    assert sort_references(once) == once


@given(names, names, names)
def test_sorting_is_a_total_order(one: str, other: str, third: str) -> None:
    ordered = sort_references([one, other, third])
    for before, after in itertools.combinations(ordered, 2):
        assert sort_references([after, before]) == [before, after]


@settings(max_examples=60)
@given(st.lists(names, min_size=1, max_size=8, unique=True))
def test_sql_alone_orders_references_as_sort_does(new_stores: NewStores, given_names: list[str]) -> None:
    with new_stores() as stores:
        apply_all(stores.store, dict.fromkeys(given_names, IMAGES[0]))
        expected = tuple(sort_references(given_names))
        assert stores.store.get(IMAGES[0].id).references == expected
        assert stores.store.list()[0].references == expected
