"""Several platforms in one file: each is as if it had a store of its own, whatever happens to the others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from imagekeep import ContentNotFoundError, Observation, Store
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.image import GONE
from tests.model import Model
from tests.properties import strategies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagekeep import ObservedImage
    from tests.properties.conftest import NewStores

    Step = tuple[str, Mapping[str, ObservedImage | ContentNotFoundError]]

PLATFORMS = ("linux/amd64", "linux/arm64", "windows/amd64")

images = strategies.observations().filter(lambda image: image is not None)
seen = st.fixed_dictionaries(
    {name: images | st.just(ContentNotFoundError("no match for the platform")) for name in PLATFORMS}
)
steps = st.lists(st.tuples(strategies.references, st.just({}) | seen), max_size=12)


@settings(max_examples=60)
@given(steps=steps)
def test_each_platform_behaves_like_a_separate_store(steps: Sequence[Step], new_stores: NewStores) -> None:
    models = {name: Model() for name in PLATFORMS}
    with new_stores() as stores, Store.open(stores.store.path, platforms=PLATFORMS) as store:
        for reference, said in steps:
            update(store, models, reference, said)
            for name, model in models.items():
                assert (store.list(name), store.states(name)) == (model.list(), model.states())
        with contextlib.closing(connect(store.path, read_only=True)) as connection:
            assert list(find_problems(connection)) == []


def update(
    store: Store,
    models: Mapping[str, Model],
    reference: str,
    said: Mapping[str, ObservedImage | ContentNotFoundError],
) -> None:
    """Update a reference in the store and in each platform's model; nothing said means that it is gone."""
    answered = {name: image for name, image in said.items() if not isinstance(image, ContentNotFoundError)}
    if not said or answered:
        store.apply(reference, Observation(said, PLATFORMS) if said else GONE)
    for name, model in models.items():
        if not said or name in answered:
            model.apply(reference, answered.get(name))
