"""A store remembers the source that it follows, and refuses another one."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from imagekeep import Reader, Store, Transition
from imagekeep.errors import AlreadyWatchedError, NotAStoreError, SourceMismatchError, SourceUnavailableError
from imagekeep.identity import SourceIdentity
from imagekeep.internals import watcher_lock
from imagekeep.sources.archive import Archive
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.watch import Watcher
from tests.database.rows import opened
from tests.images import LayoutWriter, named
from tests.memory import MemorySource
from tests.watch.watched import WatchedSource

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep import ImageRecord


class Named(WatchedSource):
    """A source in memory with an identity."""

    def __init__(self, identity: SourceIdentity) -> None:
        super().__init__()
        self.identity = identity


K8S = SourceIdentity("containerd:/run/containerd/containerd.sock", "k8s.io")
DEFAULT = K8S._replace(namespace="default")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    writer = LayoutWriter(tmp_path / "shop")
    writer.write_index([named(writer.image(), "v1")])
    return writer


def synced(path: Path, identity: SourceIdentity, *references: str) -> None:
    """Sync a store from a source with this identity and these references."""
    source = Named(identity)
    for number, reference in enumerate(references):
        source.put(reference, number)
    with Store.open(path, source=source, platform="linux/amd64") as store:
        store.sync()


def test_a_store_follows_the_source_of_its_first_full_sync(store_path: Path) -> None:
    with Reader.open(store_path) as reader:
        assert reader.identity().follows is None
        store_id = reader.identity().store_id
    synced(store_path, K8S, "a.test/a:1")
    with Reader.open(store_path) as reader:
        assert reader.identity() == (store_id, K8S, ("linux/amd64",))


def test_another_namespace_is_refused_and_both_are_named(store_path: Path) -> None:
    synced(store_path, K8S, "a.test/a:1")
    with pytest.raises(SourceMismatchError, match=r"\(namespace k8s.io\), not .*\(namespace default\)"):
        synced(store_path, DEFAULT)
    with Reader.open(store_path) as reader:
        assert reader.references() == ["a.test/a:1"]


def test_a_source_that_another_process_followed_meanwhile_is_noticed(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Named):
        def records(self) -> list[ImageRecord]:
            synced(store_path, K8S, "a.test/a:1")
            return []

    with Store.open(store_path, source=Slow(DEFAULT)) as store:
        monkeypatch.setattr("imagekeep.sync.lock_references", lambda *_: nullcontext())
        with pytest.raises(SourceMismatchError):
            store.sync()
        assert store.references() == ["a.test/a:1"]


def test_a_sync_of_some_references_neither_checks_nor_remembers_the_source(store_path: Path) -> None:
    source = Named(DEFAULT)
    source.put("b.test/b:1", 1)
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        store.sync(["b.test/b:1"])
        assert store.identity().follows is None
    synced(store_path, K8S, "a.test/a:1")
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        store.sync(["b.test/b:1"])
        assert store.identity().follows == K8S


def test_a_sync_of_some_references_from_another_source_deletes_none(store_path: Path) -> None:
    synced(store_path, K8S, "a.test/a:1")
    with Store.open(store_path, source=Named(DEFAULT), platform="linux/amd64") as store:
        report = store.sync(["a.test/a:1"])
        assert report.transitions == {"a.test/a:1": Transition.ABSENT}
        assert store.references() == ["a.test/a:1"]


def test_a_source_that_fails_is_not_remembered(store_path: Path) -> None:
    source = Named(K8S)
    source.fails = True
    with Store.open(store_path, source=source) as store:
        with pytest.raises(SourceUnavailableError):
            store.sync()
        assert store.identity().follows is None


def test_a_source_without_an_identity_is_never_refused(store_path: Path) -> None:
    synced(store_path, K8S, "a.test/a:1")
    with Store.open(store_path, source=MemorySource()) as store:
        store.sync()
        assert store.references() == []
        assert store.identity().follows == K8S


def test_a_source_is_not_replaced_under_a_watcher(store_path: Path) -> None:
    synced(store_path, K8S, "a.test/a:1")
    with Store.open(store_path, source=Named(DEFAULT)) as store:
        with watcher_lock(store), pytest.raises(AlreadyWatchedError, match="stop the watcher"):
            store.sync(replace_source=True)
        store.sync(replace_source=True)
        assert (store.identity().follows, store.references()) == (DEFAULT, [])


def test_a_watcher_of_another_source_ends_before_it_changes_anything(store_path: Path) -> None:
    synced(store_path, K8S, "a.test/a:1")
    with Store.open(store_path, source=Named(DEFAULT)) as store:
        with pytest.raises(SourceMismatchError):
            Watcher(store, source_name="other").run()
        assert store.references() == ["a.test/a:1"]
        assert store.watcher() is None
        assert not store.is_watched()


def test_a_deleted_row_is_recreated(store_path: Path) -> None:
    with opened(store_path) as connection:
        connection.execute("DELETE FROM identity")
    synced(store_path, K8S, "a.test/a:1")
    with Reader.open(store_path) as reader:
        identity = reader.identity()
    assert (len(identity.store_id), identity.follows) == (32, K8S)


def test_the_sources_have_identities_with_absolute_paths(
    layout: LayoutWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert OCILayout("shop").identity == (f"oci:{layout.directory}", None)
    assert Archive("a.tar").identity == (f"archive:{tmp_path}/a.tar", None)
    assert Containerd("c.sock", namespace="x").identity == (f"containerd:{tmp_path}/c.sock", "x")


def test_a_path_that_is_not_utf8_is_remembered(layout: LayoutWriter, store_path: Path) -> None:
    directory = layout.directory.rename(os.fsdecode(os.fsencode(layout.directory) + b"-\xff"))
    for _ in range(2):
        with Store.open(store_path, source=OCILayout(directory, base_name="shop")) as store:
            store.sync()
            assert str(store.identity().follows) == rf"oci:{layout.directory}-\xff"


def test_a_failed_open_closes_the_source_of_a_specifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    source = Named(DEFAULT)
    monkeypatch.setattr(source, "close", closed.set)
    monkeypatch.setattr("imagekeep.store.open_source", lambda _: source)
    (tmp_path / "text").write_text("not a database" * 100)
    with pytest.raises(NotAStoreError):
        Store.open(tmp_path / "text", source="containerd")
    assert closed.is_set()


def test_a_watcher_is_named_after_its_source(store_path: Path) -> None:
    with Store.open(store_path, source=WatchedSource()) as store:
        assert Watcher(store).state.source == "custom source"
    with Store.open(store_path, source=Named(DEFAULT)) as store:
        assert Watcher(store).state.source == str(DEFAULT)
        assert Watcher(store, source_name="mine").state.source == "mine"


def test_a_store_closes_the_source_of_a_specifier(store_path: Path, layout: LayoutWriter) -> None:
    with Store.open(store_path, source=f"oci:{layout.directory}") as store:
        report = store.sync()
        assert len(report.changed) == 2
        assert store.identity().follows == (f"oci:{layout.directory}", None)
