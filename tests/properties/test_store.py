"""Properties of a store after any operations."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from imagekeep import Store, Transition
from imagekeep.database.connection import connect
from imagekeep.internals import apply_all
from tests.comparison import Stores, first_mismatch
from tests.model import IMAGES, everything, perform
from tests.properties import strategies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from imagekeep import ObservedImage
    from tests.model import Operation
    from tests.properties.conftest import NewStores

CHANGING = ("apply", "apply_all", "add", "delete", "pin", "unpin")
READING = ("get", "local_resolve", "resolve", "list", "is_pinned", "summaries", "states", "counts", "history")


def do(stores: Stores, operations: Sequence[Operation]) -> None:
    """Perform operations; ignore their results."""
    for operation in operations:
        stores.perform(operation)


def said_of(store: Store, names: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the history of references, without its times."""
    return {name: [entry[1:] for entry in store.history(name)] for name in names}


def bytes_of(path: Path) -> list[bytes]:
    """Return the content of a store's file and its write-ahead log."""
    return [each.read_bytes() for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]


@settings(max_examples=60)
@given(operations=strategies.operations)
def test_any_operations_agree_with_the_model_and_keep_every_invariant(
    operations: Sequence[Operation], new_stores: NewStores
) -> None:
    with new_stores() as stores:
        assert first_mismatch(stores, operations, compare_every=1) is None


@settings(max_examples=40)
@given(
    operations=strategies.operations,
    reference=strategies.references,
    observed=strategies.observations(),
)
def test_applying_the_same_again_changes_nothing(
    operations: Sequence[Operation], reference: str, observed: ObservedImage | None, new_stores: NewStores
) -> None:
    with new_stores() as stores:
        do(stores, operations)
        stores.store.apply(reference, observed)
        said = everything(stores.store), said_of(stores.store, [reference])
        again = stores.store.apply(reference, observed)
        assert again is (Transition.UNCHANGED if observed else Transition.ABSENT)
        assert (everything(stores.store), said_of(stores.store, [reference])) == said


@settings(max_examples=40)
@given(
    operations=strategies.operations,
    verb=st.sampled_from(READING),
    image_id=strategies.image_ids,
    reference=strategies.references,
)
def test_reading_does_not_change_the_file(
    operations: Sequence[Operation], verb: str, image_id: str, reference: str, new_stores: NewStores
) -> None:
    arguments = {
        "get": (image_id,),
        "local_resolve": (reference,),
        "resolve": (reference,),
        "is_pinned": (image_id, reference),
        "history": (reference,),
    }
    with new_stores() as stores:
        do(stores, operations)
        before = bytes_of(stores.path)
        perform(stores.store, (verb, *arguments.get(verb, ())))
        assert bytes_of(stores.path) == before


@settings(max_examples=40)
@given(operations=strategies.operations, changes=strategies.operations)
def test_a_failed_operation_does_not_change_the_file(
    operations: Sequence[Operation], changes: Sequence[Operation], new_stores: NewStores
) -> None:
    with new_stores() as stores:
        do(stores, operations)
        for change in (change for change in changes if change[0] in CHANGING):
            before = bytes_of(stores.path)
            answer, _ = stores.perform(change)
            assert answer == "ok" or bytes_of(stores.path) == before


@settings(max_examples=60)
@given(operations=strategies.operations, batch=strategies.batches)
def test_a_batch_equals_single_updates(
    operations: Sequence[Operation], batch: Mapping[str, ObservedImage | None], new_stores: NewStores
) -> None:
    with new_stores() as together, new_stores() as apart:
        for stores in (together, apart):
            do(stores, operations)
        # An image has one size here, for a batch keeps images that the single steps drop and take up again.
        in_one = apply_all(together.store, batch)
        one_by_one = {name: apart.store.apply(name, observed) for name, observed in batch.items()}
        assert in_one == one_by_one
        assert together.store.states() == apart.store.states()
        assert names_of(together.store) == names_of(apart.store)
        assert said_of(together.store, list(batch)) == said_of(apart.store, list(batch))
        assert together.problems() == []


def names_of(store: Store) -> list[tuple[str, tuple[str, ...], bool]]:
    """Return each image without its size."""
    return [(image.id, image.references, image.pinned) for image in store.list()]


@settings(max_examples=40)
@given(operations=strategies.operations, batch=strategies.batches)
def test_a_dry_run_predicts_and_does_not_change_the_file(
    operations: Sequence[Operation], batch: Mapping[str, ObservedImage | None], new_stores: NewStores
) -> None:
    with new_stores() as stores:
        do(stores, operations)
        before = bytes_of(stores.path)
        foretold = apply_all(stores.store, batch, dry_run=True)
        assert bytes_of(stores.path) == before
        assert apply_all(stores.store, batch) == foretold


@settings(max_examples=40)
@given(operations=strategies.operations)
def test_the_history_ends_with_the_current_state(
    operations: Sequence[Operation], new_stores: NewStores
) -> None:
    with new_stores() as stores:
        do(stores, operations)
        states = stores.store.states()
        with contextlib.closing(connect(stores.path, read_only=True)) as connection:
            named = {
                name for (name,) in connection.execute("SELECT DISTINCT reference FROM reference_history")
            }
        assert set(states) <= named
        for name in named:
            last = stores.store.history(name)[-1]
            assert (last.event == "vanished") == (name not in states)
            if state := states.get(name):
                assert (last.image_id, last.pinned) == (state.image_id, state.pinned)


def test_two_references_that_swap_their_images_in_one_batch_both_move(new_stores: NewStores) -> None:
    one, other = IMAGES[:2]
    with new_stores() as stores:
        apply_all(stores.store, {"a:1": one, "b:1": other})
        moved = apply_all(stores.store, {"a:1": other, "b:1": one})
        assert set(moved.values()) == {Transition.MOVED}
        assert (stores.store.resolve("a:1"), stores.store.resolve("b:1")) == (other.id, one.id)
        assert stores.problems() == []
