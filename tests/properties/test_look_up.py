"""Truncated ids on a real store: the indexed ranges find what a linear scan finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from imagekeep import ObservedImage
from imagekeep.digest import split
from imagekeep.internals import apply_all
from tests.model import IMAGES, Model, perform
from tests.properties import strategies

if TYPE_CHECKING:
    from tests.model import Answer
    from tests.properties.conftest import NewStores


def scan(ids: set[str], query: str) -> tuple[str, object]:
    """Answer a query by a linear scan, in the order of a digestset."""
    algorithm, _, encoded = query.rpartition(":")
    entries = sorted(split(image_id)[::-1] for image_id in ids)
    following = [entry for entry in entries if entry >= (encoded, algorithm)]
    if f"{algorithm}:{encoded}" in ids:
        return "ok", query
    nearest = [each for each in following[:2] if each[0].startswith(encoded) and algorithm in ("", each[1])]
    if not nearest or nearest[0] != following[0]:
        return "not_found", None
    alike = [":".join(e[::-1]) for e in following if e[0].startswith(encoded) and algorithm in ("", e[1])]
    return ("ok", alike[0]) if len(nearest) == 1 else ("ambiguous", (tuple(alike[:10]), len(alike)))


def answered(answer: Answer) -> tuple[str, object]:
    """Return the class of an answer, and the id if it is an image."""
    category, found = answer
    return category, found.id if category == "ok" else found


@settings(max_examples=60)
@given(
    ids=st.sets(strategies.digests(), min_size=1, max_size=12),
    queries=st.lists(strategies.queries(), max_size=25),
)
def test_an_id_of_any_algorithm_finds_what_a_linear_scan_finds(
    ids: set[str], queries: list[str], new_stores: NewStores
) -> None:
    with new_stores() as stores:
        apply_all(stores.store, {image_id: ObservedImage(image_id, "", 0, b"{}", None) for image_id in ids})
        for query in [*queries, *ids]:
            assert answered(perform(stores.store, ("get", query))) == scan(ids, query), query


@settings(max_examples=30)
@given(present=st.sets(st.sampled_from(IMAGES), max_size=24), query=strategies.image_ids)
def test_a_truncated_id_of_real_images_finds_what_the_model_finds(
    present: set[ObservedImage], query: str, new_stores: NewStores
) -> None:
    model = Model()
    with new_stores() as stores:
        for each in (stores.store, model):
            perform(each, ("apply_all", {image.id: image for image in present}))
        assert perform(stores.store, ("get", query)) == perform(model, ("get", query))
