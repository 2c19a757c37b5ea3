"""`imagekeep watch` on a real containerd, through kills, restarts and bursts."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database.lock import ALL_REFERENCES, locked
from imagekeep.reader import Reader
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.connection import Connection
from imagekeep.store import Store
from imagekeep.sync import sync
from tests.containerd import K8S, running, wait_until
from tests.images import IMAGE_NAME, LayoutWriter, tar_of_directory
from tests.tally import measure
from tests.tools import run
from tests.watch.conftest import WITHIN
from tests.watch.process import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containerd import Daemon

APP = "example.test/app:v1"
PIN = "io.cri-containerd.pinned"
MANY = 200


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Daemon]:
    """Run a containerd with its CRI plugin for one test."""
    with running(tmp_path / "containerd") as daemon:
        yield daemon


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


def said(reader: Reader, reference: str) -> tuple[str, bool] | None:
    """Return the image id of a reference in the store, and whether it is pinned."""
    state = reader.states().get(reference)
    return (state.image_id, state.pinned) if state else None


def make_many(daemon: Daemon, directory: Path, number: int) -> list[str]:
    """Import `count` images in one archive; return their names."""
    layout = LayoutWriter(directory)
    names = [f"example.test/many/app-{each}:v1" for each in range(number)]
    images = [layout.image(environment=[f"NAME={name}"]) for name in names]
    layout.write_index(
        {**image, "annotations": {IMAGE_NAME: name}} for image, name in zip(images, names, strict=True)
    )
    daemon.import_archive(tar_of_directory(directory, directory.with_suffix(".tar")))
    return names


def test_each_change_is_followed_within_a_second(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def followed(what: str, reference: str, expected: tuple[str, bool] | None) -> None:
        began = time.monotonic()
        wait_until(lambda: said(reader, reference) == expected)
        took = time.monotonic() - began
        measure(request, f"from the end of ctr's {what} to the answer of the store", took)
        assert took < 1

    with node.following():
        first = containerd.make_image(tmp_path / "first", APP)["image_id"]
        followed("import", APP, (first, False))
        containerd.ctr("images", "tag", APP, "example.test/app:v2")
        followed("tag", "example.test/app:v2", (first, False))
        second = containerd.make_image(tmp_path / "second", "example.test/other:v1")["image_id"]
        containerd.ctr("images", "tag", "--force", "example.test/other:v1", APP)
        followed("tag --force", APP, (second, False))
        containerd.ctr("images", "label", APP, f"{PIN}=pinned")
        followed("label", APP, (second, True))
        containerd.ctr("images", "label", APP, f"{PIN}=")
        followed("label that unpins", APP, (second, False))
        containerd.ctr("images", "rm", APP)
        followed("rm", APP, None)
        node.check()


def test_each_change_is_logged_in_a_line(containerd: Daemon, node: Node, tmp_path: Path) -> None:
    with node.following() as watching:
        containerd.make_image(tmp_path / "image", APP)
        wait_until(lambda: APP in [line.get("reference") for line in watching.lines()])
        [line] = [line for line in watching.lines() if line.get("reference") == APP]
        assert (line["level"], line["transition"]) == ("info", "new")


def test_changes_missed_by_a_killed_watcher_are_found_by_the_next(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    kept = containerd.make_image(tmp_path / "kept", APP)["image_id"]
    containerd.make_image(tmp_path / "gone", "example.test/gone:v1")
    with node.following() as watching:
        watching.kill()
    assert node.run("db", "check").returncode == 0
    assert node.info()["watcher"]["running"] is False
    assert said(reader, APP) == (kept, False)
    containerd.ctr("images", "rm", "example.test/gone:v1")
    containerd.ctr("images", "label", APP, f"{PIN}=pinned")
    containerd.make_image(tmp_path / "new", "example.test/new:v1")
    assert node.run("diff").returncode == 1
    with node.following():
        assert said(reader, APP) == (kept, True)
        node.check()


@pytest.mark.parametrize("before", [1, 100, 150])
def test_a_watcher_killed_during_a_reconcile_loses_nothing_committed(
    before: int, containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    make_many(containerd, tmp_path / "many", MANY)
    with node.watching() as watching:
        wait_until(lambda: reader.counts().references >= before)
        watching.kill()
    committed = reader.states()
    state = reader.watcher()
    assert state is not None
    assert state.last_reconcile_at is None
    assert node.run("db", "check").returncode == 0
    with node.following():
        node.check()
        assert committed.items() <= reader.states().items()
        assert reader.counts().images == MANY


def test_a_stopped_containerd_is_served_from_the_store_and_followed_again(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    image_id = containerd.make_image(tmp_path / "image", APP)["image_id"]
    with node.following() as watching:
        containerd.end()
        wait_until(lambda: not watching.state("connected_at"))
        assert said(reader, APP) == (image_id, False)
        watcher = node.info()["watcher"]
        assert (watcher["running"], watcher["connected"]) == (True, None)
        assert watcher["lastReconcile"]
        containerd.start()
        wait_until(lambda: watching.state("connected_at"))
        containerd.ctr("images", "tag", APP, "example.test/app:v2")
        wait_until(lambda: said(reader, "example.test/app:v2"))
        node.check()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_a_containerd_with_200_images_is_survived(
    how: signal.Signals, containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    with node.following():
        names = make_many(containerd, tmp_path / "many", MANY)
        containerd.ctr("images", "rm", *names[:20])
        containerd.end(how)
        containerd.start()
        containerd.ctr("images", "rm", *names[20:40])
        wait_until(lambda: not set(names[:40]) & reader.states().keys())
        wait_until(lambda: set(names[40:]) <= reader.states().keys())
        node.check()


def test_an_idle_watcher_has_no_threads_of_grpc_until_something_changes(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    """They wake up several times a second as long as a channel is open."""
    with node.following() as watching:
        wait_until(lambda: watching.threads().isdisjoint({"event_engine", "lifeguard", "grpc_global_tim"}))
        containerd.make_image(tmp_path / "later", "example.test/later:v1")
        wait_until(lambda: said(reader, "example.test/later:v1"))


def test_a_burst_of_500_tags_and_their_removal_is_followed(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    image_id = containerd.make_image(tmp_path / "image", APP)["image_id"]
    tags = [f"example.test/burst/app:{number}" for number in range(500)]
    with node.following():
        containerd.ctr("images", "tag", APP, *tags)
        began = time.monotonic()
        wait_until(lambda: len(reader.get(image_id).references) == 502)
        measure(request, "from the end of 500 tags to the answer of the store", time.monotonic() - began)
        containerd.ctr("images", "rm", *tags[:-1])
        began = time.monotonic()
        wait_until(lambda: len(reader.get(image_id).references) == 3)
        measure(request, "from the end of 499 removals to the answer of the store", time.monotonic() - began)
        node.check()


def test_content_that_comes_after_its_record_is_read_later(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    image_id = containerd.make_image(tmp_path / "image", APP)["image_id"]
    config = run("ctr", "-a", containerd.socket, "-n", K8S, "content", "get", image_id)
    containerd.ctr("content", "rm", image_id)
    with node.watching():
        wait_until(lambda: APP in [incomplete.reference for incomplete in reader.incomplete()])
        assert f"has no blob {image_id}" in node.run("diff").stdout
        ingest = ["-a", containerd.socket, "-n", K8S, "content", "ingest", "--expected-digest", image_id]
        run("ctr", *ingest, "late", stdin=config)
        wait_until(lambda: said(reader, APP) == (image_id, False))
        wait_until(lambda: not reader.incomplete())


def test_stopping_takes_less_than_a_second_while_containerd_hangs(
    containerd: Daemon, node: Node, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with node.following() as watching, containerd.suspended():
        code, seconds = watching.end()
    measure(request, "from SIGTERM to the end of watch, with a containerd that hangs", seconds)
    assert code == 0
    assert seconds < WITHIN


def test_stopping_takes_less_than_a_second_while_the_store_is_locked(
    containerd: Daemon, node: Node, reader: Reader, request: pytest.FixtureRequest
) -> None:
    with locked(node.store, [ALL_REFERENCES], 10), node.watching() as watching:
        wait_until(lambda: watching.state("process_id"))
        code, seconds = watching.end()
    measure(request, "from SIGTERM to the end of watch, with a store that others hold", seconds)
    assert code == 0
    assert seconds < WITHIN


def test_a_reconcile_without_changes_is_a_listing_of_each_and_one_transaction(
    containerd: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_many(containerd, tmp_path / "many", MANY)
    calls: list[str] = []
    writes: list[Store] = []
    call, write = Connection._callable, Store._transaction  # noqa: SLF001

    def count_call(self: Connection, method: Any) -> Any:
        calls.append(method.path)
        return call(self, method)

    def count_write(self: Store, **options: bool) -> Any:
        writes.append(self)
        return write(self, **options)

    with (
        Containerd(containerd.socket) as source,
        Store.open(tmp_path / "images.db", source=source, platform="linux/amd64") as store,
    ):
        wait_until(lambda: len(source.records()) == 2 * MANY)
        assert sum(sync(store).counts.values()) == 2 * MANY
        monkeypatch.setattr(Connection, "_callable", count_call)
        monkeypatch.setattr(Store, "_transaction", count_write)
        assert sync(store).changed == {}
    assert [path.removeprefix("/containerd.services.") for path in calls] == [
        "images.v1.Images/List",
        "content.v1.Content/List",
        "snapshots.v1.Snapshots/List",
        "containers.v1.Containers/ListStream",
    ]
    assert len(writes) == 1


def test_an_unreadable_blob_does_not_affect_the_others(
    containerd: Daemon, node: Node, reader: Reader, tmp_path: Path
) -> None:
    broken = containerd.make_image(tmp_path / "broken", "example.test/broken:v1")
    whole = containerd.make_image(tmp_path / "whole", APP)["image_id"]
    blobs = containerd.directory / "root" / "io.containerd.content.v1.content" / "blobs" / "sha256"
    blob = blobs / broken["digest"][7:]
    blob.unlink()
    blob.mkdir()  # reading it fails, like reading a bad sector
    with node.watching():
        wait_until(lambda: said(reader, APP) == (whole, False))
        wait_until(lambda: "example.test/broken:v1" in [each.reference for each in reader.incomplete()])
        assert "is a directory" in node.run("diff").stdout
