"""What a sync records of the source beside references: which blobs it has, and when it was asked."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from imagekeep import Archive, OCILayout, Reader, Store
from imagekeep.content_look import look_at_source
from imagekeep.database.presence import write_look
from imagekeep.errors import SourceFaultError, SourceUnavailableError
from imagekeep.internals import write
from imagekeep.sync import sync
from imagekeep.times import current_time
from tests.database.rows import opened
from tests.images import LayoutWriter, digest_of, named, tar_of_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.image import ImageRecord
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor

APP = "docker.io/library/shop:v1"


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "shop")


@pytest.fixture
def store(store_path: Path, layout: LayoutWriter) -> Iterator[Store]:
    with Store.open(store_path, source=OCILayout(layout.directory), platform="linux/amd64") as store:
        yield store


def presence(store: Reader) -> dict[str, int | None]:
    """Return what the store says of each blob that its references need."""
    with opened(store.path) as connection:
        return dict(connection.execute("SELECT digest, present FROM blobs").fetchall())


def blobs(layout: LayoutWriter) -> set[str]:
    """Return the digest of each blob in a layout's directory."""
    return {f"{file.parent.name}:{file.name}" for file in (layout.directory / "blobs").glob("*/*")}


def total_changes(store: Store) -> bytes:
    """Return the content of the database and its log, which every write changes."""
    files = sorted(store.path.parent.glob(store.path.name + "*"))
    return b"".join(file.read_bytes() for file in files if not file.name.endswith(("-lock", "-shm")))


def test_a_sync_records_which_blobs_the_source_has(layout: LayoutWriter, store: Store) -> None:
    layout.write_index([named(layout.image(layers=(b"one", b"two")), "v1")])
    layout.path(digest_of(b"two")).unlink()
    store.sync()
    known = presence(store)
    assert known.pop(digest_of(b"two")) == 0
    assert set(known.values()) == {1}
    assert known.keys() == blobs(layout)


def test_blobs_that_go_and_come_are_noticed_by_the_next_sync(layout: LayoutWriter, store: Store) -> None:
    layout.write_index([named(layout.image(layers=(b"one", b"two")), "v1")])
    store.sync()
    assert set(presence(store).values()) == {1}
    layout.path(digest_of(b"one")).unlink()
    assert store.sync().changed == {}
    assert presence(store)[digest_of(b"one")] == 0
    layout.blob(b"one")
    assert store.sync().changed == {}
    assert set(presence(store).values()) == {1}


def test_the_documents_of_other_platforms_that_are_absent_are_recorded_as_absent(
    layout: LayoutWriter, store: Store
) -> None:
    index = layout.multi_platform()
    layout.write_index([named(index, "v1")])
    all_blobs = blobs(layout)
    arm64 = layout.image(architecture="arm64", platform=True)["digest"]
    layout.path(arm64).unlink()
    store.sync()
    known = presence(store)
    assert known[arm64] == 0
    assert {digest for digest, present in known.items() if present} <= all_blobs - {arm64}


def manifests_read(store: Store) -> set[str]:
    with opened(store.path) as connection:
        rows = connection.execute("SELECT digest FROM manifests JOIN blobs ON blob_key = manifest_key")
        return {digest for (digest,) in rows}


@pytest.mark.parametrize("what", ["manifest", "config", "both"])
def test_a_document_that_arrives_later_is_read_by_the_next_sync(
    what: str, layout: LayoutWriter, store: Store, tmp_path: Path
) -> None:
    layout.write_index([named(layout.multi_platform(), "v1")])
    arm64 = layout.image(architecture="arm64", platform=True)
    missing = {"manifest": [arm64["digest"]], "config": [layout.config_digest(arm64)]}.get(what) or [
        arm64["digest"],
        layout.config_digest(arm64),
    ]
    for digest in missing:
        shutil.move(layout.path(digest), tmp_path / digest)
    store.sync()
    assert (arm64["digest"] in manifests_read(store)) == (what == "config")
    for digest in missing:
        shutil.move(tmp_path / digest, layout.path(digest))
    assert store.sync().changed == {}
    assert arm64["digest"] in manifests_read(store)
    assert set(presence(store).values()) == {1}
    with opened(store.path) as connection:
        chained = connection.execute(
            "SELECT count(*) FROM manifest_layers WHERE chain_key IS NULL"
        ).fetchone()
    assert chained == (0,)
    before = total_changes(store)
    assert store.sync(dry_run=True).changed == {}
    assert total_changes(store) == before


def test_an_update_of_given_references_records_what_they_are_made_of(
    layout: LayoutWriter, store: Store
) -> None:
    layout.write_index(
        [named(layout.image(layers=(b"one",)), "v1"), named(layout.image(layers=(b"two",)), "v2")]
    )
    layout.path(digest_of(b"one")).unlink()
    store.sync([APP])
    assert presence(store)[digest_of(b"one")] == 0
    assert digest_of(b"two") not in presence(store)


def test_the_time_of_the_last_look_is_kept(layout: LayoutWriter, store: Store) -> None:
    assert store.look_times() == (None, None, None, None)
    layout.write_index([named(layout.image(), "v1")])
    began = current_time()
    store.sync()
    first = store.look_times()
    assert first.blobs_at is not None
    assert began <= first.blobs_at <= current_time()
    assert first[1:] == (None, None, None)
    store.sync()
    again = store.look_times()
    assert again.blobs_at is not None
    assert again.blobs_at > first.blobs_at


def test_a_layout_has_neither_containers_nor_snapshots(layout: LayoutWriter, store: Store) -> None:
    layout.write_index([named(layout.image(), "v1")])
    store.sync()
    assert store.containers() == []
    with opened(store.path) as connection:
        assert set(connection.execute("SELECT unpacked, unpacked_bytes FROM chains")) == {(None, None)}


def test_a_dry_run_records_nothing(layout: LayoutWriter, store: Store) -> None:
    layout.write_index([named(layout.image(), "v1")])
    store.sync()
    layout.path(digest_of(b"layer")).unlink()
    before = total_changes(store)
    store.sync(dry_run=True)
    assert total_changes(store) == before


def test_a_sync_that_verifies_records_it_too(layout: LayoutWriter, store: Store) -> None:
    layout.write_index([named(layout.image(), "v1")])
    store.sync()
    layout.path(digest_of(b"layer")).unlink()
    store.sync(verify=True)
    assert presence(store)[digest_of(b"layer")] == 0


def test_given_references_from_another_source_do_not_change_what_the_own_one_has(
    layout: LayoutWriter, store: Store, tmp_path: Path
) -> None:
    layout.write_index([named(layout.image(), "v1")])
    store.sync()
    archive = Archive(tar_of_directory(layout.directory, tmp_path / "shop.tar"))
    with Store.open(store.path, source=archive, platform="linux/amd64") as other:
        other.sync([APP])
    assert set(presence(store).values()) == {1}


class Someone:
    """A custom source without a listing of blobs, which fails if it is told to."""

    def __init__(self, layout: OCILayout) -> None:
        self._layout = layout
        self.failure: Exception | None = None
        self.unreadable: frozenset[str] = frozenset()

    def get(self, reference: str) -> ImageRecord:
        return self._layout.get(reference)

    def records(self) -> list[ImageRecord]:
        return self._layout.records()

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest in self.unreadable:
            raise SourceUnavailableError("not now")
        return self._layout.read(descriptor)

    def info(self, digest: str) -> ContentInfo:
        if self.failure:
            raise self.failure
        return self._layout.info(digest)

    def close(self) -> None:
        pass


def test_a_source_without_a_listing_is_asked_for_each_blob(layout: LayoutWriter, store_path: Path) -> None:
    layout.write_index([named(layout.image(), "v1")])
    with Store.open(store_path, source=Someone(OCILayout(layout.directory)), platform="linux/amd64") as store:
        store.sync()
        assert set(presence(store).values()) == {1}
        layout.path(digest_of(b"layer")).unlink()
        store.sync()
        assert presence(store)[digest_of(b"layer")] == 0


@pytest.mark.parametrize("failure", [SourceFaultError("bad sector"), NotImplementedError()], ids=repr)
def test_a_source_that_cannot_say_what_it_has_is_synced_all_the_same(
    failure: Exception, layout: LayoutWriter, store_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout.write_index([named(layout.image(), "v1")])
    source = Someone(OCILayout(layout.directory))
    source.failure = failure
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        assert not store.sync().failures
        assert presence(store)[digest_of(b"layer")] is None
        assert store.look_times().blobs_at is None
        assert f"cannot list blobs{f': {failure}' if str(failure) else ''}\n" in caplog.text
        source.failure = None
        store.sync()
        assert set(presence(store).values()) == {1}
        source.failure = failure
        layout.path(digest_of(b"layer")).unlink()
        store.sync()
        assert set(presence(store).values()) == {1}


def test_a_document_that_arrived_and_could_not_be_read_is_read_by_a_later_sync(
    layout: LayoutWriter, store_path: Path, tmp_path: Path
) -> None:
    layout.write_index([named(layout.multi_platform(), "v1")])
    arm64 = layout.image(architecture="arm64", platform=True)["digest"]
    shutil.move(layout.path(arm64), tmp_path / "arm64")
    source = Someone(OCILayout(layout.directory))
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        store.sync()
        shutil.move(tmp_path / "arm64", layout.path(arm64))
        look = look_at_source(store)
        assert look.reread == {record.reference for record in source.records()}
        source.unreadable, source.failure = frozenset([arm64]), SourceUnavailableError("not now")
        with write(store) as cursor:
            write_look(cursor, look, 0)
        store.sync(look.reread)
        assert arm64 not in manifests_read(store)
        source.unreadable, source.failure = frozenset(), None
        store.sync()
        assert arm64 in manifests_read(store)


def test_a_store_without_images_is_looked_at(layout: LayoutWriter, store: Store) -> None:
    sync(store)
    assert presence(store) == {}
