"""What a real containerd says beside its records: blobs, containers and their processes, unpacked layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidArgumentError, NamespaceNotFoundError
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.listings import FILTERS_MAX, SINGLE_MAX
from imagekeep.sources.protocol import ContainerLister, ContentLister, SnapshotLister
from imagekeep.times import current_time
from imagekeep.usage import ContainerRecord
from tests.containerd import wait_until
from tests.images import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containerd import Daemon

ABSENT = digest_of(b"absent")
APP = "example.test/app:v1"


@pytest.fixture
def source(daemon: Daemon, namespace: str) -> Iterator[Containerd]:
    """Return a namespace of the worker's containerd that no other test uses."""
    with Containerd(daemon.socket, namespace=namespace) as source:
        yield source


def printed_sizes(daemon: Daemon, namespace: str) -> dict[str, str]:
    """Return the size of each blob as `ctr content ls` prints it."""
    rows = daemon.ctr("content", "ls", namespace=namespace).splitlines()[1:]
    return {row.split("\t")[0]: row.split("\t")[1] for row in rows}


def test_it_lists_blobs_containers_and_snapshots(source: Containerd) -> None:
    assert isinstance(source, ContentLister)
    assert isinstance(source, ContainerLister)
    assert isinstance(source, SnapshotLister)


def test_the_blobs_are_those_that_containerd_has(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(
        tmp_path / "image", APP, namespace=namespace, layers=(b"a", b"layer", b"x" * 5000)
    )
    # The archive's index.json is collected some time after the import.
    wait_until(lambda: len(source.contents()) == 5)
    sizes = source.contents()
    assert sizes.keys() == printed_sizes(daemon, namespace).keys()
    assert sizes == {digest: source.info(digest).size for digest in sizes}
    assert sizes[image["digest"]] == image["size"]
    assert sizes[digest_of(b"x" * 5000)] == 5000


def test_blobs_can_be_asked_for_by_digest_and_missing_ones_are_left_out(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    layers = tuple(b"layer %d" % number for number in range(SINGLE_MAX + 5))
    daemon.make_image(tmp_path / "image", APP, namespace=namespace, layers=layers)
    wanted = {digest_of(layer): len(layer) for layer in layers}
    few = dict(list(wanted.items())[:3])
    invalid = ("", "sha256:abc", 'sha256:"', "latest")
    assert source.contents([*few, ABSENT, *invalid]) == few
    assert source.contents([*wanted, ABSENT, *invalid]) == wanted
    assert source.contents([ABSENT]) == {}
    assert source.contents(invalid) == source.contents([]) == {}
    daemon.ctr("content", "rm", digest_of(layers[0]), namespace=namespace)
    del wanted[digest_of(layers[0])]
    assert source.contents(wanted) == wanted
    assert digest_of(layers[0]) not in source.contents()


def test_a_listing_of_many_blobs_comes_in_several_parts(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    layers = tuple(b"part %d" % number for number in range(350))
    daemon.make_image(tmp_path / "image", APP, namespace=namespace, layers=layers)
    assert source.contents().keys() >= {digest_of(layer) for layer in layers}


def test_the_blobs_of_a_missing_namespace_are_an_error_and_never_none(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make_image(tmp_path / "image", APP)
    with Containerd(daemon.socket, namespace="not-there") as source:
        with pytest.raises(NamespaceNotFoundError):
            source.contents()
        with pytest.raises(NamespaceNotFoundError):
            source.contents([ABSENT])


def test_a_container_is_listed_with_its_image_until_it_is_removed(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    assert source.containers() == []
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    began = current_time()
    daemon.make_container(APP, "first", namespace=namespace)
    [container] = source.containers()
    assert container == ContainerRecord(
        "first", APP, container.created_at, running=False, snapshotter="overlayfs", snapshot_key="first"
    )
    assert began <= container.created_at <= current_time()
    daemon.make_container(APP, "second", namespace=namespace)
    listed = daemon.ctr("containers", "ls", "-q", namespace=namespace).split()
    assert sorted(each.id for each in source.containers()) == listed == ["first", "second"]
    assert source.containers(["first", "third", "", 'a"b']) == [container]
    assert source.containers(["third"]) == source.containers(["a b"]) == source.containers([]) == []
    daemon.remove_container("first", namespace)
    assert [each.id for each in source.containers()] == ["second"]
    daemon.remove_container("second", namespace)
    assert source.containers() == []


def test_a_container_runs_while_its_process_exists(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    daemon.make_container(APP, "created", namespace=namespace)
    with daemon.running_container(APP, "running", namespace):
        assert {each.id: each.running for each in source.containers()} == {"created": False, "running": True}
        assert [each.running for each in source.containers(["running"])] == [True]
        daemon.ctr("tasks", "pause", "running", namespace=namespace)
        assert [each.running for each in source.containers(["running"])] == [True]
        daemon.ctr("tasks", "resume", "running", namespace=namespace)
        daemon.ctr("tasks", "kill", "--signal", "SIGKILL", "running", namespace=namespace)
        wait_until(lambda: not source.containers(["running"])[0].running)
    daemon.remove_container("created", namespace)


def test_the_processes_of_many_containers_are_listed_at_once(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    names = [f"many-{number}" for number in range(FILTERS_MAX + 1)]
    for name in names:
        daemon.make_container(APP, name, namespace=namespace)
    with daemon.running_container(APP, "one", namespace):
        assert {each.id for each in source.containers() if each.running} == {"one"}
        assert {each.id for each in source.containers([*names, "one"]) if each.running} == {"one"}
        assert {each.id for each in source.containers(names)} == set(names)
    for name in names:
        daemon.remove_container(name, namespace)


def test_the_containers_of_another_namespace_are_not_listed(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    daemon.make_container(APP, "own", namespace=namespace)
    with Containerd(daemon.socket, namespace=f"{namespace}-other") as other:
        assert other.containers() == []
        assert other.containers(["own"]) == []
    daemon.remove_container("own", namespace)


def test_a_container_was_made_from_the_topmost_layer_of_its_image(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    daemon.make_container(APP, "made", namespace=namespace)
    [container] = source.containers()
    parent = source.parent_of(container)
    assert {parent} == source.unpacked()
    daemon.remove_container("made", namespace)
    assert source.parent_of(container) is None
    assert source.parent_of(ContainerRecord("a", APP, current_time())) is None
    elsewhere = ContainerRecord("a", APP, current_time(), snapshotter="unheard-of", snapshot_key="a")
    assert source.parent_of(elsewhere) is None


def test_a_layer_takes_unpacked_what_ctr_says_it_takes(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    assert source.unpacked() == frozenset()
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    daemon.make_container(APP, "active", namespace=namespace)
    rows = daemon.ctr("snapshots", "usage", "-b", namespace=namespace).splitlines()[1:]
    sizes = {row.split()[0]: int(row.split()[1]) for row in rows}
    layers = {name: size for name, size in sizes.items() if name != "active"}
    assert source.unpacked() == layers.keys()
    assert source.unpacked_bytes(source.unpacked()) == layers
    assert source.unpacked_bytes([*layers, ABSENT]) == layers
    assert min(layers.values()) > 500_000
    daemon.remove_container("active", namespace)


def test_an_image_that_was_only_imported_is_not_unpacked(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", APP, namespace=namespace)
    assert source.unpacked() == frozenset()
    assert source.unpacked_bytes([ABSENT]) == {}


def test_another_snapshotter_has_other_layers(daemon: Daemon, namespace: str, tmp_path: Path) -> None:
    daemon.make_runnable(tmp_path / "busybox", APP, namespace)
    with Containerd(daemon.socket, namespace=namespace, snapshotter="native") as native:
        assert native.unpacked() == frozenset()
        daemon.make_container(APP, "native", "--snapshotter", "native", namespace=namespace)
        [layer] = native.unpacked()
        [container] = native.containers()
        assert container.snapshotter == "native"
        assert native.parent_of(container) == layer
    daemon.remove_container("native", namespace)


def test_a_snapshotter_that_containerd_does_not_have_is_an_error(daemon: Daemon, namespace: str) -> None:
    with (
        Containerd(daemon.socket, namespace=namespace, snapshotter="unheard-of") as source,
        pytest.raises(InvalidArgumentError, match="snapshotter not loaded: unheard-of"),
    ):
        source.unpacked()


@pytest.mark.parametrize("name", ["", "a b", "x" * 77, "ü"])
def test_an_invalid_snapshotter_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid containerd snapshotter"):
        Containerd(snapshotter=name)


def test_the_snapshotter_is_that_of_containerds_other_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    from imagekeep.sources.specifier import open_source

    def chosen() -> str:
        source = open_source("containerd:/run/nothing")
        assert isinstance(source, Containerd)
        return source.snapshotter

    monkeypatch.delenv("CONTAINERD_SNAPSHOTTER", raising=False)
    assert chosen() == "overlayfs"
    monkeypatch.setenv("CONTAINERD_SNAPSHOTTER", "native")
    assert chosen() == "native"
    monkeypatch.setenv("CONTAINERD_SNAPSHOTTER", "")
    assert chosen() == "overlayfs"


def test_a_container_without_an_image_or_a_snapshot_is_listed(
    daemon: Daemon, namespace: str, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", APP, namespace=namespace)
    (tmp_path / "root").mkdir()
    daemon.ctr("containers", "create", "--rootfs", tmp_path / "root", "bare", namespace=namespace)
    [container] = source.containers()
    assert (container.id, container.snapshot_key) == ("bare", "")
    assert source.parent_of(container) is None
    daemon.remove_container("bare", namespace)
