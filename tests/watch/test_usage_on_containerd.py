"""Containers, use, presence and unpacked layers in a store that follows a real containerd."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from imagekeep.content_look import look_at_containers
from imagekeep.errors import SourceUnavailableError
from imagekeep.reader import Reader
from imagekeep.sources.containerd import Containerd
from imagekeep.store import Store
from imagekeep.times import current_time
from tests.containerd import CRI, running, wait_until
from tests.database.rows import opened, rows_of
from tests.images import digest_of
from tests.watch.process import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.usage import Container
    from tests.containerd import Daemon

APP = "example.test/app:v1"


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Daemon]:
    """Run a containerd for one test."""
    with running(tmp_path / "containerd", CRI) as daemon:
        yield daemon


@pytest.fixture
def store(containerd: Daemon, store_path: Path) -> Iterator[Store]:
    with (
        Containerd(containerd.socket) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        yield store


@pytest.fixture
def node(containerd: Daemon, tmp_path: Path) -> Node:
    """Return a node of that containerd, with an empty store."""
    node = Node(tmp_path, f"containerd:{containerd.socket}")
    Store.open(node.store).close()
    return node


@pytest.fixture
def reader(node: Node) -> Iterator[Reader]:
    with Reader.open(node.store) as reader:
        yield reader


def by_id(reader: Reader) -> dict[str, Container]:
    return {container.id: container for container in reader.containers()}


def synced(store: Store) -> bool:
    """Sync the store; return whether its source answered."""
    try:
        return not store.sync().failures
    except SourceUnavailableError:
        return False


def layers(reader: Reader) -> dict[str, tuple[int | None, int | None]]:
    """Return for each layer whether it is unpacked, and its size."""
    with opened(reader.path) as connection:
        rows = connection.execute("SELECT chain_id, unpacked, unpacked_bytes FROM chains").fetchall()
        return {chain_id: (unpacked, size) for chain_id, unpacked, size in rows}


def sizes_of(daemon: Daemon, snapshotter: str) -> dict[str, int]:
    """Return the size of each unpacked layer as `ctr snapshots usage` prints it."""
    rows = daemon.ctr("snapshots", "--snapshotter", snapshotter, "usage", "-b").splitlines()[1:]
    return {row.split()[0]: int(row.split()[1]) for row in rows if row.startswith("sha256:")}


def absent(reader: Reader) -> set[str]:
    with opened(reader.path) as connection:
        return {digest for (digest,) in connection.execute("SELECT digest FROM blobs WHERE present = 0")}


def test_a_sync_finds_containers_and_the_images_that_they_use(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    began = current_time()
    store.sync()
    image_id = store.resolve(APP)
    [container] = store.containers()
    assert (container.id, container.reference, container.image_id) == ("one", APP, image_id)
    assert container.created_at is not None
    assert container.created_at <= began
    assert not container.running
    usage = store.usage(image_id)
    assert usage.in_use
    assert (usage.uses, usage.containers) == (1, (container,))
    assert usage.last_used is not None
    assert began <= usage.last_used <= current_time()
    listed = containerd.ctr("containers", "ls").splitlines()[1:]
    assert [line.split()[:2] for line in listed] == [["one", APP]]


def test_a_removed_container_used_its_image_until_then(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    store.sync()
    image_id = store.resolve(APP)
    containerd.remove_container("one")
    gone = current_time()
    store.sync()
    assert store.containers() == []
    usage = store.usage(image_id)
    assert (usage.in_use, usage.uses) == (False, 1)
    assert usage.last_used is not None
    assert gone <= usage.last_used <= current_time()
    store.sync()
    assert store.usage(image_id) == usage


def test_the_use_of_an_image_outlives_everything_but_the_image(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    store.sync()
    image_id = store.resolve(APP)
    before = store.usage(image_id)
    containerd.end()
    with pytest.raises(SourceUnavailableError):
        store.sync()
    assert store.usage(image_id).containers == before.containers
    containerd.start()
    wait_until(lambda: synced(store))
    again = store.usage(image_id)
    assert (again.first_seen, again.uses, again.containers) == (before.first_seen, 1, before.containers)
    containerd.remove_container("one")
    store.sync()
    with Reader.open(store.path) as reader:
        assert reader.usage(image_id).uses == 1
    containerd.ctr("images", "rm", APP)
    store.sync()
    with opened(store.path) as connection:
        assert connection.execute("SELECT count(*) FROM image_usage").fetchone() == (0,)
    assert [entry.event for entry in store.history(APP)][-1] == "vanished"


def test_a_container_keeps_the_image_that_it_was_made_from(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "first", APP)
    containerd.make_container(APP, "old")
    containerd.ctr("images", "tag", APP, "example.test/kept:v1")
    containerd.make_image(tmp_path / "second", APP)
    store.sync()
    first, second = store.resolve("example.test/kept:v1"), store.resolve(APP)
    assert first != second
    assert by_id(store)["old"].image_id == first
    assert store.usage(first).in_use
    assert not store.usage(second).in_use


def test_a_container_whose_image_the_store_does_not_have_uses_none(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "first", APP)
    containerd.make_container(APP, "old")
    containerd.make_image(tmp_path / "second", APP)
    store.sync()
    assert by_id(store)["old"].image_id is None
    assert not store.usage(store.resolve(APP)).in_use


def test_the_image_of_a_container_is_found_when_the_store_has_it(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    store.sync(["example.test/nothing:v1"])
    look_at_containers(store, ["one"])
    assert by_id(store)["one"].image_id is None
    store.update(APP)
    assert store.sync().changed == {}
    assert by_id(store)["one"].image_id == store.resolve(APP)
    assert store.usage(store.resolve(APP)).uses == 1


def test_a_container_with_the_id_of_a_removed_one_is_another_use(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    store.sync()
    [first] = store.containers()
    containerd.remove_container("one")
    containerd.make_container(APP, "one")
    store.sync()
    [second] = store.containers()
    assert second.created_at != first.created_at
    assert second.image_id == first.image_id == store.resolve(APP)
    assert store.usage(store.resolve(APP)).uses == 2


def test_two_stores_of_one_file_count_a_container_once(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    store.sync()
    containerd.make_container(APP, "one")
    with (
        Containerd(containerd.socket) as source,
        Store.open(store.path, source=source, platform="linux/amd64") as other,
        ThreadPoolExecutor(4) as pool,
    ):
        looks = [pool.submit(look_at_containers, each, ["one"]) for each in (store, other) for _ in range(5)]
        syncs = [pool.submit(each.sync) for each in (store, other)]
        for look in looks:
            look.result()
        for each_sync in syncs:
            each_sync.result()
    assert store.usage(store.resolve(APP)).uses == 1


def test_an_event_of_a_container_is_followed_within_a_second(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    with node.following():
        image_id = reader.resolve(APP)
        containerd.make_container(APP, "created")
        wait_until(lambda: "created" in by_id(reader), 2)
        assert by_id(reader)["created"].image_id == image_id
        with containerd.running_container(APP, "running"):
            wait_until(lambda: "running" in by_id(reader) and by_id(reader)["running"].running, 2)
            assert reader.usage(image_id).uses == 2
            containerd.ctr("tasks", "kill", "--signal", "SIGKILL", "running")
            wait_until(lambda: not by_id(reader)["running"].running, 2)
        wait_until(lambda: by_id(reader).keys() == {"created"}, 2)
        containerd.remove_container("created")
        wait_until(lambda: not reader.containers(), 2)
        assert not reader.usage(image_id).in_use
        node.check()


def test_containers_that_came_and_went_without_a_watcher_are_found(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "gone")
    with node.following():
        wait_until(lambda: "gone" in by_id(reader))
    containerd.remove_container("gone")
    containerd.make_container(APP, "new")
    with node.following():
        wait_until(lambda: by_id(reader).keys() == {"new"})
        assert reader.usage(reader.resolve(APP)).uses == 2


def test_a_restart_of_containerd_keeps_the_containers(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "kept")
    with node.following() as watching:
        wait_until(lambda: "kept" in by_id(reader))
        containerd.end()
        wait_until(lambda: not watching.state("connected_at"))
        assert by_id(reader).keys() == {"kept"}
        containerd.start()
        wait_until(lambda: watching.state("connected_at"))
        containerd.make_container(APP, "later")
        wait_until(lambda: by_id(reader).keys() == {"kept", "later"})
        assert reader.usage(reader.resolve(APP)).uses == 2


def test_the_layers_that_are_unpacked_and_their_sizes_are_those_of_ctr(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_image(tmp_path / "packed", "example.test/packed:v1")
    store.sync()
    rows = containerd.ctr("snapshots", "usage", "-b").splitlines()[1:]
    sizes = {row.split()[0]: (1, int(row.split()[1])) for row in rows}
    known = layers(store)
    assert {chain_id: layer for chain_id, layer in known.items() if layer[0]} == sizes
    assert {layer for layer in known.values() if not layer[0]} == {(0, None)}
    assert store.look_times().snapshotter == "overlayfs"
    containerd.ctr("snapshots", "rm", next(iter(sizes)))
    store.sync()
    assert set(layers(store).values()) == {(0, None)}


def test_an_image_that_is_unpacked_later_is_noticed_with_its_first_container(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    [chain_id] = [row.split()[0] for row in containerd.ctr("snapshots", "usage", "-b").splitlines()[1:]]
    containerd.ctr("snapshots", "rm", chain_id)
    with node.following():
        assert layers(reader) == {chain_id: (0, None)}
        containerd.make_container(APP, "first")  # which unpacks the image
        wait_until(lambda: layers(reader)[chain_id][0] == 1)
        assert (layers(reader)[chain_id][1] or 0) > 500_000


def test_content_that_was_removed_is_noticed_at_the_next_reconcile(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_image(tmp_path / "image", APP, layers=(b"one", b"two"))
    store.sync()
    assert absent(store) == set()
    assert "complete" in containerd.ctr("images", "check")
    containerd.ctr("content", "rm", digest_of(b"two"))
    store.sync()
    assert absent(store) == {digest_of(b"two")}
    assert "incomplete (2/3)" in containerd.ctr("images", "check")


def test_another_snapshotter_has_other_layers(containerd: Daemon, store: Store, tmp_path: Path) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    store.sync()
    assert {unpacked for unpacked, _ in layers(store).values()} == {1}
    with (
        Containerd(containerd.socket, snapshotter="native") as native,
        Store.open(store.path, source=native, platform="linux/amd64") as other,
    ):
        other.sync()
        assert set(layers(other).values()) == {(0, None)}
        assert other.look_times().snapshotter == "native"


def test_the_sizes_of_layers_are_asked_for_again_with_another_snapshotter(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    store.sync()
    containerd.make_container(APP, "native", "--snapshotter", "native")
    with opened(store.path) as connection:
        connection.execute("UPDATE chains SET unpacked_bytes = 1")
    store.sync()
    assert [size for _, size in layers(store).values()] == [1]
    with (
        Containerd(containerd.socket, snapshotter="native") as native,
        Store.open(store.path, source=native, platform="linux/amd64") as other,
    ):
        other.sync()
        assert {each: size for each, (_, size) in layers(other).items()} == sizes_of(containerd, "native")


def test_a_containerd_without_that_snapshotter_leaves_the_layers_unknown(
    containerd: Daemon, store_path: Path, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    with (
        Containerd(containerd.socket, snapshotter="unheard-of") as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        assert not store.sync().failures
        assert set(layers(store).values()) == {(None, None)}
        assert store.look_times().snapshots_at is None


def test_a_reconcile_with_containers_and_without_changes_writes_once(
    containerd: Daemon, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    for number in range(5):
        containerd.make_container(APP, f"app-{number}")
    store.sync()
    with opened(store.path) as connection:
        before = [
            connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("containers", "image_usage")
        ]
        writes: list[Store] = []
        write = Store._transaction  # noqa: SLF001

        def count(self: Store, **options: bool) -> object:
            writes.append(self)
            return write(self, **options)

        monkeypatch.setattr(Store, "_transaction", count)
        store.sync()
        assert len(writes) == 1
        assert before == [rows_of(connection, table) for table in ("containers", "image_usage")]


def test_a_store_that_follows_a_layout_from_now_on_has_no_containers(
    containerd: Daemon, store: Store, tmp_path: Path
) -> None:
    containerd.make_runnable(tmp_path / "busybox", APP)
    containerd.make_container(APP, "one")
    store.sync()
    with Store.open(store.path, source=f"oci:{tmp_path / 'busybox'}", platform="linux/amd64") as other:
        other.sync(replace_source=True)
        assert other.containers() == []
        assert {unpacked for unpacked, _ in layers(other).values()} == {None}
        times = other.look_times()
        assert (times.snapshots_at, times.containers_at, times.snapshotter) == (None, None, None)
