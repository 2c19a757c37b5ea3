"""Store's methods that write: what each does, and that a failure changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import (
    AmbiguousError,
    Category,
    ContentNotFoundError,
    FailedPreconditionError,
    Image,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidDigestError,
    InvalidReferenceError,
    ObservedImage,
    PinNeedsReferenceError,
    SourceUnavailableError,
    Stage,
    Store,
    StoreUnavailableError,
    Transition,
)
from imagekeep.database.connection import StoreConnection, connect
from imagekeep.errors import InvalidDocumentError
from imagekeep.internals import apply_all
from tests.memory import MemorySource
from tests.model import IMAGES, everything

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NAME, OTHER = "docker.io/library/busybox:1", "docker.io/library/busybox:2"
ONE, TWO = IMAGES[:2]


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
def store(store_path: Path, source: MemorySource) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as opened:
        yield opened


def pinned(image: ObservedImage) -> ObservedImage:
    return ObservedImage(
        image.id, image.chain_id, image.size, image.config_json, image.target_digest, pinned=True
    )


def image_named(observed: ObservedImage, *references: str, pinned: bool = False) -> Image:
    return Image(
        observed.id, references, observed.chain_id, observed.size, pinned, config_json=observed.config_json
    )


def test_update_adds_a_new_image(store: Store, source: MemorySource) -> None:
    image_id = source.put(NAME, 2)
    assert store.update(NAME) is Transition.NEW
    image = store.get(image_id)
    assert (image.references, image.pinned, image.config["os"]) == ((NAME,), False, "linux")
    assert image.chain_id.startswith("sha256:")
    assert image.size > 2 * 1_000


def test_update_keeps_an_unchanged_image(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1)
    store.update(NAME)
    said = everything(store)
    assert store.update(NAME) is Transition.UNCHANGED
    assert everything(store) == said


def test_update_pins(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1)
    store.update(NAME)
    image_id = source.put(NAME, 1, pinned=True)
    assert store.update(NAME) is Transition.PINNED
    assert store.is_pinned(image_id, NAME)


def test_update_unpins(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1, pinned=True)
    store.update(NAME)
    image_id = source.put(NAME, 1)
    assert store.update(NAME) is Transition.UNPINNED
    assert not store.get(image_id).pinned


def test_update_moves_a_reference_and_deletes_an_image_without_references(
    store: Store, source: MemorySource
) -> None:
    old = source.put(NAME, 1, pinned=True)
    store.update(NAME)
    new = source.put(NAME, 2)
    assert store.update(NAME) is Transition.MOVED
    assert [image.id for image in store.list()] == [new]
    assert not store.is_pinned(new, NAME)
    with pytest.raises(ImageNotFoundError):
        store.get(old)


def test_an_image_stays_while_another_reference_names_it(store: Store, source: MemorySource) -> None:
    old = source.put(NAME, 1)
    source.put(OTHER, 1)
    store.update(NAME)
    store.update(OTHER)
    source.put(NAME, 2)
    store.update(NAME)
    assert store.get(old).references == (OTHER,)


def test_update_deletes_a_reference_that_is_gone(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1)
    store.update(NAME)
    source.remove(NAME)
    assert store.update(NAME) is Transition.VANISHED
    assert everything(store) == ([], {})


def test_update_of_an_unknown_reference_does_nothing(store: Store) -> None:
    assert store.update(NAME) is Transition.ABSENT
    assert store.history(NAME) == []


def test_a_known_image_keeps_its_first_size(store: Store) -> None:
    store.apply(NAME, ONE)
    store.apply(OTHER, ObservedImage(ONE.id, ONE.chain_id, 5, ONE.config_json, ONE.target_digest))
    assert store.get(ONE.id).size == ONE.size


def test_an_unavailable_source_changes_nothing(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1)
    store.update(NAME)
    said = everything(store)
    source.put(NAME, 2)
    source.fails = True
    with pytest.raises(SourceUnavailableError):
        store.update(NAME)
    assert everything(store) == said


def test_a_missing_document_changes_nothing(store: Store, source: MemorySource) -> None:
    source.put(NAME, 1)
    store.update(NAME)
    said = everything(store)
    source.put(NAME, 2)
    source.break_image(NAME)
    with pytest.raises(ContentNotFoundError):
        store.update(NAME)
    assert everything(store) == said


def test_a_document_error_names_the_reference_and_the_stage(store: Store, source: MemorySource) -> None:
    source.point(NAME, source.add_manifest(config=b"no JSON"))
    with pytest.raises(InvalidDocumentError) as raised:
        store.update(NAME)
    assert (raised.value.reference, raised.value.stage) == (NAME, Stage.DIFF_IDS)
    assert str(raised.value).startswith(NAME)


@pytest.mark.parametrize("bad_id", ["", "sha256:abc", "no digest", ONE.id[:-1], ONE.id.upper()])
def test_a_bad_id_changes_nothing(store: Store, bad_id: str) -> None:
    store.apply(NAME, ONE)
    said = everything(store)
    with pytest.raises(InvalidDigestError):
        store.apply(NAME, ObservedImage(bad_id, "", 0, b"{}", None))
    assert everything(store) == said


def test_one_bad_id_in_a_batch_changes_nothing(store: Store) -> None:
    with pytest.raises(InvalidDigestError):
        apply_all(store, {NAME: ONE, OTHER: ObservedImage("bad", "", 0, b"{}", None)})
    assert everything(store) == ([], {})


def test_a_bad_target_changes_nothing(store: Store) -> None:
    with pytest.raises(InvalidDigestError):
        store.apply(NAME, ObservedImage(ONE.id, "", 0, b"{}", "bad"))
    assert everything(store) == ([], {})


@pytest.mark.parametrize("name", ["", "a" * 40_000, "\ud800"])
def test_an_impossible_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidReferenceError):
        store.apply(name, ONE)
    with pytest.raises(InvalidReferenceError):
        store.update(name)
    assert everything(store) == ([], {})


def test_a_full_disk_changes_nothing(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect_to_a_small_disk(path: Path, **options: Any) -> StoreConnection:
        connection = connect(path, **options)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr("imagekeep.database.kept.connect", connect_to_a_small_disk)
    with Store.open(store_path) as store:
        store.apply(NAME, ONE)
        said = everything(store)
        with pytest.raises(StoreUnavailableError, match="full"):
            store.apply(OTHER, ObservedImage(TWO.id, "", 0, b"x" * 1_000_000, None))
        assert everything(store) == said
        assert store.apply(OTHER, ONE) is Transition.NEW


def test_update_needs_a_source(store_path: Path) -> None:
    with Store.open(store_path) as store, pytest.raises(FailedPreconditionError, match="without a source"):
        store.update(NAME)


def test_add_adds_a_new_image(store: Store) -> None:
    store.add(image_named(ONE, OTHER, NAME, OTHER))
    assert store.get(ONE.id).references == (NAME, OTHER)
    assert store.states()[NAME].target_digest is None


def test_add_moves_a_reference_and_forgets_its_target(store: Store) -> None:
    store.apply(NAME, ONE)
    store.add(image_named(TWO, NAME))
    assert [image.id for image in store.list()] == [TWO.id]
    assert store.states()[NAME].target_digest is None


def test_add_pins_with_every_reference_and_unpins_none(store: Store) -> None:
    store.add(image_named(ONE, NAME, OTHER, pinned=True))
    store.add(image_named(ONE, NAME))
    assert [store.is_pinned(ONE.id, name) for name in (NAME, OTHER)] == [True, True]


def test_add_needs_a_reference(store: Store) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one reference"):
        store.add(image_named(ONE))


def test_delete_removes_one_reference_and_the_image_with_the_last(store: Store) -> None:
    store.add(image_named(ONE, NAME, OTHER))
    assert store.delete(ONE.id[7:19], NAME)
    assert store.get(ONE.id).references == (OTHER,)
    assert store.delete(ONE.id, OTHER)
    assert store.list() == []


def test_delete_returns_false_if_there_is_nothing_to_delete(store: Store) -> None:
    store.apply(NAME, ONE)
    store.apply(OTHER, TWO)
    said = everything(store)
    assert not store.delete(ONE.id, OTHER)
    assert not store.delete(IMAGES[2].id, NAME)
    assert everything(store) == said


def test_pin_takes_a_truncated_id(store: Store) -> None:
    store.apply(NAME, ONE)
    store.pin(ONE.id[7:19], NAME)
    assert store.get(ONE.id).pinned


def test_an_image_is_pinned_while_one_of_its_references_is(store: Store) -> None:
    store.add(image_named(ONE, NAME, OTHER, pinned=True))
    store.unpin(ONE.id, NAME)
    assert store.get(ONE.id).pinned
    store.unpin(ONE.id, OTHER)
    assert not store.get(ONE.id).pinned


def test_a_pin_needs_a_reference_that_the_image_has(store: Store) -> None:
    store.apply(NAME, ONE)
    store.apply(OTHER, TWO)
    with pytest.raises(PinNeedsReferenceError):
        store.pin(ONE.id, OTHER)
    assert not store.get(ONE.id).pinned


def test_unpin_without_a_pin_does_nothing(store: Store) -> None:
    store.apply(NAME, ONE)
    said = everything(store)
    store.unpin(ONE.id, NAME)
    store.unpin(ONE.id, OTHER)
    assert everything(store) == said


@pytest.mark.parametrize("verb", ["pin", "unpin"])
def test_a_pin_of_an_ambiguous_id_is_refused(store: Store, verb: str) -> None:
    apply_all(store, {image.id: image for image in IMAGES})
    with pytest.raises(AmbiguousError):
        getattr(store, verb)(ONE.id[7:8], ONE.id)


def test_the_history_has_each_change_with_target_and_pin(store: Store) -> None:
    store.apply(NAME, pinned(ONE))
    store.apply(NAME, TWO)
    store.apply(NAME, None)
    events = [entry[1:] for entry in store.history(NAME)]
    assert events == [
        ("new", ONE.id, ONE.target_digest, True),
        ("moved", TWO.id, TWO.target_digest, False),
        ("vanished", TWO.id, TWO.target_digest, False),
    ]


def test_the_history_omits_unchanged_references(store: Store) -> None:
    store.apply(NAME, ONE)
    store.apply(NAME, ONE)
    store.apply(OTHER, None)
    assert [entry.event for entry in store.history(NAME)] == ["new"]
    assert store.history(OTHER) == []


def test_the_history_omits_failed_updates(store: Store, source: MemorySource) -> None:
    source.fails = True
    with pytest.raises(SourceUnavailableError):
        store.update(NAME)
    assert store.history(NAME) == []


@pytest.mark.parametrize("size", [2**63, -(2**63) - 1])
def test_a_size_beyond_64_bits_is_refused(store: Store, size: int) -> None:
    image = image_named(ONE, NAME)
    with pytest.raises(InvalidArgumentError, match="64 bits"):
        store.add(replace(image, size=size))
    assert store.list() == []


def test_a_closed_store_raises(store: Store) -> None:
    store.close()
    with pytest.raises(FailedPreconditionError, match="closed") as raised:
        store.apply(NAME, ONE)
    assert raised.value.category is Category.FAILED_PRECONDITION


def test_a_context_closes_the_store(store_path: Path) -> None:
    with Store.open(store_path) as store:
        store.apply(NAME, ONE)
    with pytest.raises(FailedPreconditionError, match="closed"):
        store.apply(NAME, None)


def test_open_creates_a_missing_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "new" / "images.db") as store:
        assert store.list() == []
    assert (tmp_path / "new" / "images.db").stat().st_mode & 0o777 == 0o600


def test_an_error_escapes_its_reference(store: Store, source: MemorySource) -> None:
    name = "\x1b[2Ja\n" + "b" * 1000
    source.put(name, 1)
    source.blobs.clear()
    with pytest.raises(ContentNotFoundError) as raised:
        store.update(name)
    assert str(raised.value).startswith("\\x1b[2Ja\\nbbb")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500
    assert raised.value.reference == name


def test_a_closed_store_leaves_nothing_to_recover(store_path: Path) -> None:
    with Store.open(store_path) as store:
        store.apply(NAME, ONE)
        store.list()
    assert not store_path.with_name(f"{store_path.name}-wal").exists()
