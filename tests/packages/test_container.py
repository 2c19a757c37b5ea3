"""imagekeep in a container, beside the node's containerd: the same answers, locks and checks as outside."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import ImagekeepError
from imagekeep.reader import Reader
from tests.containerd import wait_until
from tests.cri.client import Client
from tests.cri.process import serving
from tests.test_kubernetes import BASE, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packages.containers import Container, Node

ORDINARY = 65532
"""The image's user."""

SHIFTED = 100_000
"""The node's user that is root in a container with a user namespace."""


@pytest.fixture
def directory(public_directory: Path) -> Path:
    """Return the store's directory, which any user can reach."""
    directory = public_directory / "store"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def watching(node: Node, directory: Path) -> Iterator[Container]:
    """Run a watcher in a container, and wait until it follows containerd."""
    with node.running(directory, "watch") as container:
        container.wait_until(lambda: follows(directory))
        yield container


def follows(directory: Path) -> bool:
    """Return whether a watcher of the store is connected to its source, seen from outside."""
    try:
        with Reader.open(directory / "images.db") as reader:
            state = reader.watcher()
            return reader.is_watched() and state is not None and state.last_reconcile_at is not None
    except ImagekeepError:
        return False


def has(directory: Path, reference: str) -> bool:
    """Return whether the store at the path has a reference."""
    with Reader.open(directory / "images.db") as reader:
        return any(reference in image.references for image in reader.list())


def names(listed: str) -> set[str]:
    """Return the names of the images of `images -o json`."""
    return {name for image in json.loads(listed)["images"] for name in image["repoTags"]}


@pytest.mark.usefixtures("watching")
def test_both_sides_give_the_same_answers(node: Node, directory: Path, tmp_path: Path) -> None:
    inside, outside = (run(directory, "images", "-o", "json") for run in (node.inside, node.outside))
    assert inside == outside
    assert {"example.test/one:v1", "example.test/two:v1", "localhost/imagekeep:test"} <= names(outside.out)

    assert node.outside(tmp_path, "sync", "-q").code == 0
    assert node.outside(tmp_path, "images", "-o", "json") == outside
    for run in (node.inside, node.outside):
        assert run(directory, "db", "check").code == 0


@pytest.mark.usefixtures("watching")
def test_a_new_image_arrives_in_the_store(node: Node, directory: Path, tmp_path: Path) -> None:
    node.daemon.make_image(tmp_path / "new", "example.test/new:v1")
    wait_until(lambda: has(directory, "example.test/new:v1"))


def test_the_server_in_a_container_answers_as_the_one_outside(
    node: Node, directory: Path, tmp_path: Path
) -> None:
    sockets = directory.with_name("run")
    sockets.mkdir(mode=0o755)
    with (
        node.running(directory, "serve") as container,
        serving(tmp_path, source=f"containerd:{node.daemon.socket}") as outside,
    ):
        container.wait_until(lambda: follows(directory) and follows(tmp_path))
        with Client(sockets / "imagekeep.sock") as inner, outside.client() as outer:
            assert inner.images() == outer.images() != []
            question = {"image": {"image": "example.test/one:v1"}, "verbose": True}
            assert inner.ask("ImageStatus", question) == outer.ask("ImageStatus", question)


PROBE = """
import grpc, urllib.request
from grpc_health.v1 import health_pb2, health_pb2_grpc
with grpc.insecure_channel("127.0.0.1:9324") as channel:
    check = health_pb2_grpc.HealthStub(channel).Check
    print(check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=20).status)
with urllib.request.urlopen("http://127.0.0.1:9323/metrics", timeout=20) as page:
    print(b"imagekeep_store_up 1.0" in page.read())
"""


def test_the_arguments_of_the_daemon_set_serve_health_and_metrics(node: Node, directory: Path) -> None:
    directory.with_name("run").mkdir(mode=0o755)
    (container,) = load(BASE / "daemonset.yaml")["spec"]["template"]["spec"]["containers"]
    with node.running(directory, *container["args"]) as pod:
        pod.wait_until(lambda: follows(directory))
        assert pod.python(f"exec({PROBE!r})").split() == ["1", "True"]


def test_a_store_has_one_watcher_wherever_it_runs(watching: Container, node: Node, directory: Path) -> None:
    for run in (node.outside, node.inside):
        second = run(directory, "watch")
        assert second.code == 4, second
        assert "watche" in second.err

    watching.end(signal.SIGKILL)
    with Reader.open(directory / "images.db") as reader:
        assert not reader.is_watched()
    with node.running(directory, "watch") as third:
        third.wait_until(lambda: follows(directory))


def test_a_watcher_in_a_container_stops_when_it_is_told_to(watching: Container, directory: Path) -> None:
    assert watching.end(signal.SIGTERM) == 0
    with Reader.open(directory / "images.db") as reader:
        state = reader.watcher()
    assert state is not None
    assert state.stopped_at is not None


@pytest.mark.usefixtures("watching")
def test_a_store_that_is_restored_outside_is_followed_inside(
    node: Node, directory: Path, tmp_path: Path
) -> None:
    assert node.outside(directory, "db", "backup", str(tmp_path / "backup.db")).code == 0
    assert node.outside(directory, "db", "restore", str(tmp_path / "backup.db")).code == 0
    node.daemon.make_image(tmp_path / "after", "example.test/after:v1")
    wait_until(lambda: has(directory, "example.test/after:v1"))
    assert node.outside(directory, "db", "check").code == 0


def test_a_directory_that_others_may_write_to_is_refused_inside_too(node: Node, directory: Path) -> None:
    assert node.outside(directory, "sync", "-q").code == 0
    directory.chmod(0o777)
    refused = node.inside(directory, "images")
    assert refused.code == 125
    assert "every user can write to it" in refused.err


def test_a_store_that_is_mounted_alone_is_refused(node: Node, directory: Path) -> None:
    assert node.outside(directory, "sync", "-q").code == 0
    alone = (
        f"--mount=type=bind,src={directory / 'images.db'},dst=/var/lib/imagekeep/images.db,options=bind:rw"
    )
    refused = node.inside(directory, "images", options=(alone,))
    assert refused.code == 125
    assert "mounted by itself" in refused.err


NAMESPACE = (f"--uidmap=0:{SHIFTED}:65536", f"--gidmap=0:{SHIFTED}:65536")


def test_the_images_user_watches_if_the_socket_and_the_directory_admit_it(
    ordinary: Node, directory: Path
) -> None:
    require_same_answers(ordinary, directory, ORDINARY)


def test_a_user_namespace_watches_if_the_socket_and_the_directory_admit_it(
    node: Node, directory: Path
) -> None:
    require_same_answers(node, directory, SHIFTED, NAMESPACE)


def require_same_answers(node: Node, directory: Path, user: int, options: tuple[str, ...] = ()) -> None:
    """Give the directory to a user of the node and the socket to its group, watch, and compare both sides."""
    os.chown(directory, user, user)
    os.chown(node.daemon.socket, -1, user)
    try:
        with node.running(directory, "watch", options=options) as container:
            container.wait_until(lambda: follows(directory))
            inside = node.inside(directory, "images", "-o", "json", options=options)
            second = node.outside(directory, "watch")
            outside = node.outside(directory, "images", "-o", "json")
    finally:
        os.chown(node.daemon.socket, -1, 0)
    assert {path.stat().st_uid for path in directory.iterdir()} == {user}
    assert inside == outside
    assert "example.test/one:v1" in names(inside.out)
    assert second.code == 4


def test_a_store_of_a_user_outside_the_user_namespace_is_not_read(node: Node, directory: Path) -> None:
    assert node.outside(directory, "sync", "-q").code == 0
    refused = node.inside(directory, "images", options=NAMESPACE)
    assert refused.code == 125
    assert "permission denied" in refused.err.lower()
