"""`sync`: the store says what its source says, one broken image aside, and no document is read in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import (
    ContentNotFoundError,
    FailedPreconditionError,
    ImageNotFoundError,
    InvalidReferenceError,
    PermissionDeniedError,
    Reader,
    SourceUnavailableError,
    Store,
    Transition,
)
from imagekeep.database import status_statements
from imagekeep.database.check import find_problems
from imagekeep.errors import InvalidDocumentError
from imagekeep.sync import BATCH, sync
from tests.database.rows import opened
from tests.memory import MemorySource
from tests.model import everything

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from imagekeep import Descriptor, ImageRecord

NAMES = [f"docker.io/library/app:{number}" for number in range(4)]
ZERO, ONE, TWO, THREE = NAMES


@pytest.fixture
def source() -> MemorySource:
    """A source of three images, the second of them pinned."""
    made = MemorySource()
    for number, name in enumerate(NAMES[:3]):
        made.put(name, number, pinned=name == ONE)
    return made


@pytest.fixture
def store(store_path: Path, source: MemorySource) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as made:
        yield made


def bytes_of(path: Path) -> list[bytes]:
    """Return the content of a store's file and its write-ahead log."""
    return [each.read_bytes() for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]


def test_configs_that_are_too_large_to_be_held_together_are_all_written(
    store: Store, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.sync.HELD_BYTES_MAX", 0)
    source.put(THREE, 3)
    sync(store)
    source.put(ZERO, 5)
    source.remove(ONE)
    source.point(TWO, source.image(5))
    report = sync(store)
    assert report.counts == {Transition.MOVED: 2, Transition.VANISHED: 1, Transition.UNCHANGED: 1}
    assert {name: state.image_id for name, state in store.states().items()} == {
        name: source.config_digest(source.image(number)) for name, number in ((ZERO, 5), (TWO, 5), (THREE, 3))
    }


def test_everything_that_the_source_has_is_new_at_first(store: Store) -> None:
    report = sync(store)
    assert report.transitions == dict.fromkeys(NAMES[:3], Transition.NEW)
    assert report.counts == {Transition.NEW: 3}
    assert len(store.list()) == 3
    assert [name for name, state in store.states().items() if state.pinned] == [ONE]


def test_what_is_unchanged_costs_no_document(store: Store, source: MemorySource) -> None:
    sync(store)
    source.reads = source.asked = 0
    report = sync(store)
    assert report.counts == {Transition.UNCHANGED: 3}
    assert not report.changed
    assert (source.reads, source.asked) == (0, 0)


def test_a_new_name_of_a_known_target_is_read_once_for_all_its_names(
    store: Store, source: MemorySource
) -> None:
    image = source.image(7)
    names = [f"registry.test/app:{number}" for number in range(5)]
    for name in names:
        source.point(name, image)
    source.reads = 0
    sync(store, names)
    documents = source.reads
    assert {store.resolve(name) for name in names} == {source.config_digest(image)}
    source.put("registry.test/one:1", 8)
    source.reads = 0
    sync(store, ["registry.test/one:1"])
    assert source.reads == documents


def test_verify_reads_every_document_again(store: Store, source: MemorySource) -> None:
    sync(store)
    source.reads = 0
    assert sync(store, verify=True).counts == {Transition.UNCHANGED: 3}
    assert source.reads >= 6


def test_verify_finds_a_document_that_was_lost(store: Store, source: MemorySource) -> None:
    sync(store)
    source.break_image(ONE)
    assert not sync(store).failures
    assert set(sync(store, verify=True).failures) == {ONE}


def test_a_pin_that_changed_costs_no_document(store: Store, source: MemorySource) -> None:
    sync(store)
    source.put(ONE, 1)
    source.put(TWO, 2, pinned=True)
    source.reads = 0
    assert sync(store).changed == {ONE: Transition.UNPINNED, TWO: Transition.PINNED}
    assert source.reads == 0


def test_what_vanished_at_the_source_goes(store: Store, source: MemorySource) -> None:
    sync(store)
    source.remove(ZERO)
    assert sync(store).changed == {ZERO: Transition.VANISHED}
    assert set(store.states()) == {ONE, TWO}


def test_a_source_without_images_empties_the_store(store: Store, source: MemorySource) -> None:
    sync(store)
    source.by_name.clear()
    assert sync(store).counts == {Transition.VANISHED: 3}
    assert everything(store) == ([], {})


def test_what_moved_is_read(store: Store, source: MemorySource) -> None:
    sync(store)
    image_id = source.put(ZERO, 9)
    report = sync(store)
    assert report.changed == {ZERO: Transition.MOVED}
    assert report.image_ids == {ZERO: image_id}
    assert store.resolve(ZERO) == image_id


def test_a_broken_image_does_not_stop_the_others(store: Store, source: MemorySource) -> None:
    source.break_image(ONE)
    report = sync(store)
    assert report.transitions == dict.fromkeys([ZERO, TWO], Transition.NEW)
    assert {name: type(error) for name, error in report.failures.items()} == {ONE: ContentNotFoundError}


def test_what_was_known_of_a_broken_image_stays(store: Store, source: MemorySource) -> None:
    sync(store)
    known = store.resolve(ONE)
    source.put(ONE, 9)
    source.break_image(ONE)
    source.put(ZERO, 8)
    report = sync(store)
    assert store.resolve(ONE) == known
    assert (set(report.failures), set(report.changed)) == ({ONE}, {ZERO})


def test_two_names_of_one_broken_target_both_fail(store: Store, source: MemorySource) -> None:
    broken = source.add_manifest(config=b"no JSON")
    source.point(ONE, broken)
    source.point(THREE, broken)
    failures = sync(store).failures
    assert set(failures) == {ONE, THREE}
    assert all(isinstance(error, InvalidDocumentError) for error in failures.values())


def test_a_name_that_cannot_be_kept_does_not_stop_the_others(store: Store, source: MemorySource) -> None:
    source.put("a" * 40_000, 5)
    report = sync(store)
    assert [type(error) for error in report.failures.values()] == [InvalidReferenceError]
    assert report.counts == {Transition.NEW: 3}


def test_some_references_are_synced_and_the_others_left(store: Store, source: MemorySource) -> None:
    report = sync(store, [TWO, ZERO, TWO, THREE])
    assert report.transitions == {TWO: Transition.NEW, ZERO: Transition.NEW, THREE: Transition.ABSENT}
    source.remove(ZERO)
    assert sync(store, [TWO]).transitions == {TWO: Transition.UNCHANGED}
    assert set(store.states()) == {ZERO, TWO}


def test_a_dry_run_says_what_would_be_and_changes_no_byte(store: Store, source: MemorySource) -> None:
    sync(store)
    source.put(ZERO, 9)
    source.remove(ONE)
    source.put(TWO, 2, pinned=True)
    source.put(THREE, 3)
    before = bytes_of(store.path)
    foretold = sync(store, dry_run=True)
    assert bytes_of(store.path) == before
    assert foretold.transitions == sync(store).transitions


def test_a_dry_run_that_fails_for_one_changes_no_byte(store: Store, source: MemorySource) -> None:
    sync(store)
    source.put(ZERO, 9)
    source.break_image(ZERO)
    before = bytes_of(store.path)
    assert set(sync(store, dry_run=True).failures) == {ZERO}
    assert bytes_of(store.path) == before


def test_another_platform_keeps_separate_images(store: Store, source: MemorySource) -> None:
    platforms = {name: {"os": "linux", "architecture": name} for name in ("amd64", "arm64")}
    images = {name: source.image(5, name, platform=platforms[name]) for name in platforms}
    source.point(THREE, source.add_index(*images.values()))
    sync(store)
    assert store.resolve(THREE) == source.config_digest(images["amd64"])
    with Store.open(store.path, source=source, platform="linux/arm64") as other:
        assert sync(other, [THREE]).transitions == {THREE: Transition.NEW}
        assert other.resolve(THREE) == source.config_digest(images["arm64"])
    assert store.resolve(THREE) == source.config_digest(images["amd64"])
    assert store.kept_platforms() == ["linux/amd64", "linux/arm64"]


def test_a_sync_of_several_batches_tells_its_progress(store: Store, source: MemorySource) -> None:
    image = source.image(1)
    for number in range(BATCH * 2):
        source.point(f"registry.test/app:{number}", image)
    told: list[tuple[int, int]] = []
    sync(store, progress=lambda done, of: told.append((done, of)))
    total = BATCH * 2 + 3
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(store.states()) == total


def test_a_source_that_does_not_answer_is_an_error_and_changes_nothing(
    store: Store, source: MemorySource
) -> None:
    sync(store)
    said = everything(store)
    source.fails = True
    for references in (None, [ZERO]):
        with pytest.raises(SourceUnavailableError):
            sync(store, references)
    assert everything(store) == said


class Locked(MemorySource):
    """A source whose documents may not be read."""

    def read(self, descriptor: Descriptor) -> bytes:
        raise PermissionDeniedError(descriptor.digest)


def test_a_source_that_may_not_be_read_is_an_error(store_path: Path) -> None:
    source = Locked()
    source.put(ZERO, 1)
    with (
        Store.open(store_path, source=source, platform="linux/amd64") as store,
        pytest.raises(PermissionDeniedError),
    ):
        sync(store)


class Moving(MemorySource):
    """A source where a reference moves after it was listed."""

    def records(self) -> Iterable[ImageRecord]:
        listed = list(super().records())
        self.put(ZERO, 9)
        return listed


def test_what_moves_after_the_listing_is_read_as_it_is_then(store_path: Path) -> None:
    source = Moving()
    source.put(ZERO, 1)
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        sync(store)
        assert store.resolve(ZERO) == source.config_digest(source.image(9))


def test_sync_needs_a_source(store_path: Path) -> None:
    with Store.open(store_path) as store, pytest.raises(FailedPreconditionError):
        sync(store)


def test_what_failed_is_noted_until_it_can_be_read(store: Store, source: MemorySource) -> None:
    source.break_image(ONE)
    sync(store)
    assert incomplete(store) == {ONE}
    source.put(ONE, 1)
    sync(store)
    assert incomplete(store) == set()


def incomplete(store: Store) -> set[str]:
    """Return the references that are noted as not read."""
    with opened(store.path) as connection:
        return {row[0] for row in connection.execute(status_statements.INCOMPLETE_REFERENCES)}


def test_two_syncs_of_the_same_source_agree(store: Store, source: MemorySource) -> None:
    sync(store)
    with Reader.open(store.path) as reader:
        said = reader.list()
    sync(store, verify=True)
    assert store.list() == said


def test_each_reference_says_which_target_was_read(store: Store, source: MemorySource) -> None:
    sync(store)
    assert {name: state.target_digest for name, state in store.states().items()} == {
        name: source.target(name).digest for name in NAMES[:3]
    }


def multi_platform(source: MemorySource, reference: str, *architectures: str) -> dict[str, str]:
    """Point a reference at an index with an image for each architecture; return their image ids."""
    platforms = {name: {"os": "linux", "architecture": name} for name in architectures}
    images = {name: source.image(5, name, platform=platforms[name]) for name in architectures}
    source.point(reference, source.add_index(*images.values()))
    return {name: source.config_digest(image) for name, image in images.items()}


def test_a_platform_that_is_added_is_read_though_the_target_is_known(
    store: Store, source: MemorySource
) -> None:
    ids = multi_platform(source, THREE, "amd64", "arm64")
    sync(store)
    with Store.open(store.path, source=source, platforms=["linux/amd64", "linux/arm64"]) as both:
        assert sync(both).transitions[THREE] is Transition.NEW
        assert both.resolve(THREE, "linux/arm64") == ids["arm64"]


def test_a_reference_without_an_image_for_a_platform_is_not_read_again(
    store: Store, source: MemorySource
) -> None:
    multi_platform(source, THREE, "amd64")
    with Store.open(store.path, source=source, platforms=["linux/amd64", "linux/arm64"]) as both:
        sync(both)
        before = source.reads
        assert sync(both).transitions[THREE] is Transition.UNCHANGED
    assert source.reads == before


def test_every_platform_is_kept_if_all_are_asked_for(store: Store, source: MemorySource) -> None:
    sync(store)
    ids = multi_platform(source, THREE, "amd64", "arm64", "s390x")
    with Store.open(store.path, source=source, platforms="*") as every:
        sync(every)
        assert {every.resolve(THREE, f"linux/{name}") for name in ids} == set(ids.values())
        assert {"linux/amd64", "*", "linux/arm64", "linux/s390x"} == set(every.kept_platforms())


def test_replacing_the_platforms_drops_the_others(store: Store, source: MemorySource) -> None:
    ids = multi_platform(source, THREE, "amd64", "arm64")
    with Store.open(store.path, source=source, platforms=["linux/amd64", "linux/arm64"]) as both:
        sync(both)
    with Store.open(store.path, source=source, platforms=["linux/arm64"]) as one:
        report = sync(one, replace_platforms=True)
    assert list(report.dropped) == ["linux/amd64"]
    with Reader.open(store.path) as reader:
        assert (reader.kept_platforms(), reader.resolve(THREE)) == (["linux/arm64"], ids["arm64"])
        with pytest.raises(ImageNotFoundError):
            reader.resolve(THREE, "linux/amd64")
    with opened(store.path) as connection:
        assert list(find_problems(connection)) == []


def test_a_store_of_every_platform_can_be_narrowed_to_one(store: Store, source: MemorySource) -> None:
    ids = multi_platform(source, THREE, "amd64", "arm64")
    with Store.open(store.path, source=source, platforms=["*", "linux/arm64"]) as every:
        sync(every)
        assert every.resolve(THREE) == ids["arm64"]
    with Store.open(store.path, source=source, platforms=["linux/amd64"]) as one:
        assert sync(one, replace_platforms=True).dropped == {"linux/arm64": 4, "*": 0}
        assert (one.kept_platforms(), one.resolve(THREE)) == (["linux/amd64"], ids["amd64"])
        assert sync(one).transitions[THREE] is Transition.UNCHANGED
        assert one.kept_platforms() == ["linux/amd64"]


def test_a_dry_run_says_which_platforms_would_be_dropped(store: Store, source: MemorySource) -> None:
    sync(store)
    with Store.open(store.path, source=source, platform="linux/arm64") as one:
        assert list(sync(one, dry_run=True, replace_platforms=True).dropped) == ["linux/amd64"]
    assert store.kept_platforms() == ["linux/amd64"]
