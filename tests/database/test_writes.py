"""How changes are written: which rows are inserted, kept and deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Store, Transition
from imagekeep.digest import digest_of
from imagekeep.internals import apply_all
from imagekeep.times import from_microseconds
from tests.database.rows import contents, opened
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep import ObservedImage

ONE, TWO = IMAGES[:2]
NAME, OTHER = "docker.io/library/busybox:1", "busybox:2"
STATE = ("images", "documents", "references", "pinned_refs", "ref_cache", "image_usage")
"""The tables of the current state, without history and status."""


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path, platform=PLATFORM) as opened_store:
        yield opened_store


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Set the store's clock, in microseconds, to the last value that the test appends."""
    times = [1_000_000]
    for module in ("store", "internals"):
        monkeypatch.setattr(f"imagekeep.{module}.timestamp", lambda: times[-1])
    return times


def rows(store: Store, table: str) -> list[Any]:
    return contents(store.path)[table]


def keys(store: Store) -> dict[str, int]:
    """Return the key of each image."""
    return {image_id: key for key, image_id, *_ in rows(store, "images")}


def pinned(image: ObservedImage) -> ObservedImage:
    return replace(image, pinned=True)


def test_a_new_reference_adds_a_row_to_each_table(store: Store) -> None:
    store.apply(NAME, pinned(ONE))
    ((key, *_, config_key),) = rows(store, "images")
    assert {table: rows(store, table) for table in STATE} == {
        "images": [(key, ONE.id, ONE.chain_id, ONE.size, 0, config_key)],
        "documents": [(config_key, ONE.config_json)],
        "references": [(0, NAME, key, 1, None)],
        "pinned_refs": [(NAME, key)],
        "ref_cache": [(NAME, key, ONE.target_digest, None, 1_000_000)],
        "image_usage": [(ONE.id, 1_000_000, None, 0)],
    }


def test_the_canonical_spelling_is_stored_if_it_differs_from_the_name(store: Store) -> None:
    store.apply(OTHER, ONE)
    assert rows(store, "references")[0][3:] == (1, "docker.io/library/busybox:2")


def test_an_image_without_a_target_has_no_cache_row(store: Store) -> None:
    store.apply(NAME, replace(ONE, target_digest=None))
    assert rows(store, "ref_cache") == []


def test_a_second_reference_adds_no_image(store: Store) -> None:
    store.apply(NAME, ONE)
    store.apply(OTHER, replace(ONE, size=5, chain_id="", config_json=b"{}"))
    assert len(rows(store, "references")) == 2
    assert [row[:4] for row in rows(store, "images")] == [
        (keys(store)[ONE.id], ONE.id, ONE.chain_id, ONE.size)
    ]
    assert [document for _, document in rows(store, "documents")] == [ONE.config_json]


def test_the_last_reference_leaves_no_row_when_it_vanishes(store: Store) -> None:
    store.apply(NAME, pinned(ONE))
    store.apply(NAME, None)
    assert not any(rows(store, table) for table in STATE)


def test_a_reference_that_moves_takes_its_cache_row_along(store: Store, clock: list[int]) -> None:
    store.apply(NAME, ONE)
    clock.append(2_000_000)
    store.apply(NAME, TWO)
    assert rows(store, "ref_cache") == [(NAME, keys(store)[TWO.id], TWO.target_digest, None, 2_000_000)]
    assert list(keys(store)) == [TWO.id]


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_reference_that_moves_gets_the_sources_pin(store: Store, before: bool, after: bool) -> None:
    store.apply(NAME, replace(ONE, pinned=before))
    store.apply(NAME, replace(TWO, pinned=after))
    assert rows(store, "pinned_refs") == ([(NAME, keys(store)[TWO.id])] if after else [])


def test_an_unchanged_reference_gets_a_new_verification_time(store: Store, clock: list[int]) -> None:
    store.apply(NAME, ONE)
    clock.append(2_000_000)
    assert store.apply(NAME, ONE) is Transition.UNCHANGED
    assert rows(store, "ref_cache")[0][-1] == 2_000_000


def test_another_target_of_the_same_image_is_recorded(store: Store) -> None:
    store.apply(NAME, ONE)
    target = digest_of(b"an index around it")
    assert store.apply(NAME, replace(ONE, target_digest=target)) is Transition.UNCHANGED
    assert rows(store, "ref_cache")[0][2] == target
    assert [entry.event for entry in store.history(NAME)] == ["new", "retargeted"]


def test_pinning_without_a_source_keeps_the_cache_row(store: Store, clock: list[int]) -> None:
    store.apply(NAME, ONE)
    said = rows(store, "ref_cache")
    clock.append(2_000_000)
    store.pin(ONE.id, NAME)
    assert rows(store, "ref_cache") == said


def test_an_image_that_only_changes_names_keeps_its_row(store: Store) -> None:
    apply_all(store, {NAME: ONE})
    before = keys(store)
    apply_all(store, {NAME: None, OTHER: replace(ONE, size=5)})
    assert keys(store) == before
    assert rows(store, "images")[0][3] == ONE.size


def test_an_image_that_changes_names_one_by_one_gets_a_new_row_and_size(store: Store) -> None:
    """Unlike in a batch, the image is deleted in between."""
    store.apply(NAME, ONE)
    store.apply(NAME, None)
    store.apply(OTHER, replace(ONE, size=5))
    assert rows(store, "images")[0][3] == 5


def test_three_references_that_rotate_their_images_all_move(store: Store) -> None:
    names, three = ("a:1", "b:1", "c:1"), IMAGES[:3]
    apply_all(store, dict(zip(names, three, strict=True)))
    rotated = dict(zip(names, (*three[1:], three[0]), strict=True))
    assert set(apply_all(store, rotated).values()) == {Transition.MOVED}
    assert {name: store.resolve(name) for name in names} == {n: image.id for n, image in rotated.items()}


def test_a_batch_is_one_commit(store: Store) -> None:
    with opened(store.path) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        apply_all(store, {image.id: image for image in IMAGES})
        after = connection.execute("PRAGMA data_version").fetchone()
        assert after[0] == before[0] + 1


def test_a_dry_run_commits_nothing(store: Store) -> None:
    store.apply(NAME, ONE)
    with opened(store.path) as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        assert apply_all(store, {NAME: TWO}, dry_run=True) == {NAME: Transition.MOVED}
        assert connection.execute("PRAGMA data_version").fetchone() == before
    assert store.resolve(NAME) == ONE.id


def test_the_changes_of_a_batch_have_one_time(store: Store, clock: list[int]) -> None:
    clock.append(3_000_000)
    apply_all(store, {NAME: ONE, OTHER: TWO})
    assert {entry.at for name in (NAME, OTHER) for entry in store.history(name)} == {
        from_microseconds(3_000_000)
    }
