"""A store that follows a real containerd: update and sync."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    NamespaceNotFoundError,
    SourceMismatchError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from imagekeep.internals import local_resolve
from imagekeep.sources.containerd import Containerd, Timeouts
from imagekeep.store import Store
from imagekeep.sync import sync
from imagekeep.transition import Transition
from tests.containerd import K8S, wait_until
from tests.images import busybox_layout, change_image, digest_of, docker_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containerd import Daemon


@pytest.fixture
def source(daemon: Daemon, namespace: str) -> Iterator[Containerd]:
    with Containerd(daemon.socket, namespace=namespace) as source:
        yield source


@pytest.fixture
def store(store_path: Path, source: Containerd) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        yield store


def test_an_update_follows_a_reference_through_its_life(
    daemon: Daemon, namespace: str, store: Store, source: Containerd, tmp_path: Path
) -> None:
    name = "example.test/app:v1"
    first = daemon.make_image(tmp_path / "first", name, namespace=namespace)
    assert store.update(name) is Transition.NEW
    assert store.resolve(name) == first["image_id"]
    assert store.update(name) is Transition.UNCHANGED
    source.pin(name)
    assert store.update(name) is Transition.PINNED
    second = daemon.make_image(tmp_path / "second", name, namespace=namespace)
    assert store.update(name) is Transition.MOVED
    assert store.resolve(name) == second["image_id"]
    source.remove(name)
    assert store.update(name) is Transition.VANISHED
    assert store.list() == []


def test_a_sync_updates_the_store_from_containerd(
    daemon: Daemon, namespace: str, store: Store, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "a", "example.test/a:v1", "example.test/a:v2", namespace=namespace)
    other = daemon.make_image(tmp_path / "b", "example.test/b:v1", namespace=namespace)
    source.pin("example.test/b:v1")
    assert set(sync(store).transitions.values()) == {Transition.NEW}
    kept = {image.id: (image.references, image.pinned) for image in store.list()}
    assert kept == {
        image["image_id"]: (("example.test/a:v1", "example.test/a:v2"), False),
        other["image_id"]: (("example.test/b:v1",), True),
    }
    assert set(sync(store).transitions.values()) == {Transition.UNCHANGED}


def test_the_config_and_the_size_are_those_of_the_image(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    layout = busybox_layout(tmp_path / "layout")
    change_image(layout, "v1", "SHELL=/bin/sh")
    archive = docker_archive(layout, "v1", tmp_path / "app.tar", "example.test/busybox:v1")
    daemon.import_archive(archive, namespace)
    store.update("example.test/busybox:v1")
    image = local_resolve(store, "example.test/busybox:v1")
    assert json.loads(image.config_json)["config"]["Env"][-1] == "SHELL=/bin/sh"
    assert digest_of(image.config_json) == image.id
    assert image.size > 500_000


def test_an_unchanged_containerd_is_asked_for_its_list_and_for_no_document(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.make_image(tmp_path / "a", "example.test/a:v1", "example.test/a:v2", namespace=namespace)
    sync(store)
    for method in ("get", "read", "info"):
        monkeypatch.delattr(Containerd, method)
    assert set(sync(store).transitions.values()) == {Transition.UNCHANGED}


def test_one_image_whose_blobs_are_missing_is_reported_and_the_others_are_kept(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    broken = daemon.make_image(tmp_path / "broken", "example.test/broken:v1", namespace=namespace)
    daemon.make_image(tmp_path / "whole", "example.test/whole:v1", namespace=namespace)
    daemon.ctr("content", "rm", broken["digest"], namespace=namespace)
    report = sync(store)
    assert report.transitions == {"example.test/whole:v1": Transition.NEW}
    assert isinstance(report.failures["example.test/broken:v1"], ContentNotFoundError)


@pytest.mark.parametrize(
    "name", ["z" * 20_000, "é" * 2_500, "\x01" * 32_768], ids=["long", "wide", "longest"]
)
def test_a_record_of_a_long_name_that_went_vanishes_and_does_not_stop_the_others(
    name: str, daemon: Daemon, store: Store, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "one", "example.test/one:v1", namespace=namespace)
    daemon.make_record(name, image, namespace)
    sync(store)
    source.remove(name)
    daemon.make_image(tmp_path / "two", "example.test/two:v1", namespace=namespace)
    transitions = sync(store).transitions
    assert transitions.get(name) is Transition.VANISHED
    assert transitions.get("example.test/two:v1") is Transition.NEW


def test_a_blob_that_was_changed_on_disk_is_refused(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    name = "example.test/forged:v1"
    image = daemon.make_image(tmp_path / "image", name, namespace=namespace)
    blobs = daemon.directory / "root" / "io.containerd.content.v1.content" / "blobs" / "sha256"
    blob = blobs / image["digest"][7:]
    blob.write_bytes(blob.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(CorruptContentError, match=image["digest"]):
        store.update(name)
    assert store.list() == []


def test_a_containerd_that_does_not_answer_changes_nothing(
    daemon: Daemon, namespace: str, store: Store, store_path: Path, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/app:v1", namespace=namespace)
    sync(store)
    before = store.list()
    with (
        Containerd(daemon.socket, namespace=namespace, timeouts=Timeouts(0.2, 0.2, 0.2)) as hasty,
        Store.open(store_path, source=hasty, platform="linux/amd64") as other,
        daemon.suspended(),
    ):
        with pytest.raises(SourceTimeoutError):
            other.update("example.test/app:v1")
        with pytest.raises(SourceTimeoutError):
            sync(other)
        assert other.list() == before


def test_a_socket_that_is_gone_changes_nothing(
    daemon: Daemon, namespace: str, store: Store, store_path: Path, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/app:v1", namespace=namespace)
    sync(store)
    gone = Containerd(str(tmp_path / "gone"), namespace=namespace)
    with Store.open(store_path, source=gone, platform="linux/amd64") as other:
        with pytest.raises(SourceUnavailableError):
            sync(other, replace_source=True)
        assert other.list() == store.list()


def test_a_wrong_namespace_does_not_empty_the_store(
    daemon: Daemon, namespace: str, store: Store, store_path: Path, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/app:v1", namespace=namespace)
    sync(store)
    with (
        Containerd(daemon.socket, namespace="mistyped") as wrong,
        Store.open(store_path, source=wrong, platform="linux/amd64") as other,
    ):
        with pytest.raises(SourceMismatchError, match=f"namespace {namespace}.*namespace mistyped"):
            sync(other)
        with pytest.raises(NamespaceNotFoundError):
            sync(other, replace_source=True)
        with pytest.raises(NamespaceNotFoundError):
            other.update("example.test/app:v1")
        assert other.list() == store.list()


def test_the_records_of_the_cri_plugin_are_one_image(
    cri_daemon: Daemon, store_path: Path, tmp_path: Path
) -> None:
    name = f"example.test/{digest_of(str(tmp_path).encode())[7:39]}:v1"
    image = cri_daemon.make_image(tmp_path / "image", name)
    with (
        Containerd(cri_daemon.socket, namespace=K8S) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        wait_until(lambda: image["image_id"] in {record.reference for record in source.records()})
        sync(store)
        assert store.get(image["image_id"]).references == (name, image["image_id"])
