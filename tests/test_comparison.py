"""Random operations on a real store agree with the model, and the comparison finds faults."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.database.connection import connect
from tests.comparison import (
    first_mismatch,
    fresh_stores,
    in_words,
    random_operations,
    shrink,
)
from tests.model import IMAGES, PLATFORM
from tests.tally import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model import Operation

SEEDS = range(10)
OPERATIONS_OF_A_SEED = 10_000
CHECKOUT = Path(__file__).parents[1]


class NeverUnpins(Store):
    """A store with a fault."""

    def unpin(self, image_id: str, reference: str) -> None:
        self.get(image_id)


def open_faulty(path: Path) -> Store:
    return NeverUnpins.open(path, platform=PLATFORM)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_agrees_with_the_model(
    seed: int, store_template: Path, request: pytest.FixtureRequest
) -> None:
    operations = random_operations(seed, OPERATIONS_OF_A_SEED, reopen_every=100)
    with fresh_stores(store_template) as stores:
        assert first_mismatch(stores, operations, compare_every=100) is None
    count(request, "random operations that agree with the model", OPERATIONS_OF_A_SEED)


def test_three_processes_with_one_store_agree_with_the_model(store_template: Path) -> None:
    operations = random_operations(7, 3_000, reopen_every=20, processes=3)
    with fresh_stores(store_template, processes=3) as stores:
        assert first_mismatch(stores, operations, compare_every=10) is None


def test_a_seed_repeats_the_operations() -> None:
    first, again = (list(random_operations(3, 200, reopen_every=5)) for _ in range(2))
    assert first == again


def test_a_fault_is_found_and_shrunk(store_template: Path) -> None:
    def fails(some: Sequence[Operation]) -> bool:
        with fresh_stores(store_template, opener=open_faulty) as stores:
            return first_mismatch(stores, some, compare_every=1) is not None

    operations = list(random_operations(1, 3_000))
    assert fails(operations)
    verbs = [operation[0] for operation in shrink(operations, fails)]
    assert verbs[-1] == "unpin"
    assert len(verbs) <= 3


def test_broken_invariants_are_a_mismatch(store_template: Path) -> None:
    with fresh_stores(store_template) as stores:
        stores.perform(("apply", "busybox", IMAGES[0]))
        assert stores.problems() == []
        with contextlib.closing(connect(stores.path)) as connection:
            connection.execute('UPDATE "references" SET sort_rank = 0')
        assert [problem.split(":")[0] for problem in stores.problems()] == ["references busybox"]


def test_shrinking_keeps_only_what_is_needed() -> None:
    def fails(numbers: Sequence[Operation]) -> bool:
        return {(3,), (40,), (41,)} <= set(numbers)

    assert shrink([(number,) for number in range(100)], fails) == [(3,), (40,), (41,)]


def test_an_operation_is_printed_with_image_numbers() -> None:
    assert in_words(("apply", "busybox", IMAGES[3])) == "apply 'busybox', <image 3, size 1003>"


def test_soak_agrees_and_prints_how_to_repeat_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--operations", "500", "--seed", "5", "--reopen-every", "50"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "500 operations, 0 mismatches" in done.stdout
    assert "--operations 500 --seed 5 --reopen-every 50 --processes 1" in done.stdout
