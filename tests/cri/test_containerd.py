"""imagekeep beside a real containerd: both answer alike, and each sees the other's changes."""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.reader import Reader
from tests.containerd import CRI, running, wait_until
from tests.cri.client import Answer, Client, named
from tests.cri.process import Process, serving
from tests.cri.registry import push, registry
from tests.images import busybox_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containerd import Daemon


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Daemon]:
    """Run a containerd whose CRI answers."""
    with running(tmp_path / "containerd") as daemon:
        with Client(daemon.socket) as client:
            wait_until(lambda: client.ask("ListImages").code == "OK")
        yield daemon


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of the server's store, socket and log."""
    (tmp_path / "keep").mkdir()
    return tmp_path / "keep"


@pytest.fixture
def server(containerd: Daemon, directory: Path) -> Iterator[Process]:
    """Serve that containerd's images."""
    with serving(directory, source=f"containerd:{containerd.socket}") as process:
        yield process


@pytest.fixture
def theirs(containerd: Daemon) -> Iterator[Client]:
    """Return a client of containerd's own CRI."""
    with Client(containerd.socket) as client:
        yield client


@pytest.fixture
def ours(server: Process) -> Iterator[Client]:
    """Return a client of imagekeep."""
    with server.client() as client:
        yield client


def images_of(client: Client) -> dict[str, Any]:
    """Return the listed images by id; containerd 1.6 does not report pins."""
    return {image["id"]: {k: v for k, v in image.items() if k != "pinned"} for image in client.images()}


def compared(answer: Answer) -> Answer:
    """Return an answer to compare, without pins, which 1.6 does not report."""
    (answer.reply or {}).get("image", {}).pop("pinned", None)
    return answer


def in_step(ours: Client, theirs: Client) -> bool:
    """Return whether both list the same images."""
    return images_of(ours) == images_of(theirs)


def test_both_give_the_same_answers(containerd: Daemon, ours: Client, theirs: Client, tmp_path: Path) -> None:
    one = containerd.make_image(tmp_path / "one", "docker.io/library/one:v1", "example.test/team/one:v2")
    two = containerd.make_image(tmp_path / "two", "example.test/two:v1")
    digest = f"example.test/two@{two['digest']}"
    containerd.ctr("images", "tag", "example.test/two:v1", digest)
    wait_until(lambda: len(images_of(theirs)) == 2 and in_step(ours, theirs))
    first, second = one["image_id"], two["image_id"]
    names = [
        *(
            "one:v1",
            "library/one:v1",
            "docker.io/one:v1",
            "docker.io/library/one:v1",
            "index.docker.io/one:v1",
        ),
        *("one", "example.test/team/one:v2", "example.test/team/one:v1", "example.test/two:v1"),
        *(digest, f"example.test/two:v1@{two['digest']}", f"example.test/two:nope@{two['digest']}"),
        *(two["digest"], first, second, first[7:], first[7:20], first[:20], first[7:20].upper()),
        *("sha256:", ":", "sha256", "sha256:" + "0" * 64, "0" * 70, "md5:abc", "sha512:abc"),
        *("", "Invalid REF!!", "ONE:v1", " one:v1", "one:v1\n", "é", "a" * 300),
    ]
    for name in names:
        for verbose in (False, True):
            question = named(name, verbose=verbose)
            told = compared(ours.ask("ImageStatus", question)), compared(theirs.ask("ImageStatus", question))
            assert told[0] == told[1], name
    assert ours.ask("RemoveImage", named("")) == theirs.ask("RemoveImage", named(""))
    assert ours.ask("RemoveImage", named("nope:v1")) == theirs.ask("RemoveImage", named("nope:v1"))


def test_a_pull_is_real_and_shows_before_its_reply(
    containerd: Daemon, ours: Client, theirs: Client, tmp_path: Path
) -> None:
    with registry(tmp_path) as address:
        push(busybox_layout(tmp_path / "layout"), "v1", f"{address}/busybox:v1")
        pulled = ours.ask(
            "PullImage", named(f"{address}/busybox:v1", auth={"username": "u", "password": "secret"})
        )
        status = ours.status(f"{address}/busybox:v1")
        assert (pulled.code, status.code) == ("OK", "OK")
        assert status.reply["image"]["id"] == pulled.reply["image_ref"]
        assert status.reply["image"]["repo_tags"] == [f"{address}/busybox:v1"]
        (by_digest,) = status.reply["image"]["repo_digests"]
        assert status.reply == theirs.status(by_digest).reply
        assert ours.ask("PullImage", named(by_digest)).reply == pulled.reply
    assert usage_of(ours) == usage_of(theirs)


def usage_of(client: Client) -> Any:
    """Return the one filesystem of ImageFsInfo without its time."""
    (usage,) = client.ask("ImageFsInfo").reply["image_filesystems"]
    assert int(usage.pop("timestamp")) > 0
    return usage


def test_a_failed_pull_has_containerds_error(ours: Client, theirs: Client) -> None:
    request = named("127.0.0.1:1/x:v1")
    assert ours.ask("PullImage", request) == theirs.ask("PullImage", request)


def test_removing_an_image_removes_every_reference_at_containerd(
    containerd: Daemon, directory: Path, ours: Client, theirs: Client, tmp_path: Path
) -> None:
    image = containerd.make_image(tmp_path / "one", "example.test/one:v1", "example.test/one:v2")
    containerd.ctr("images", "label", "example.test/one:v2", "io.cri-containerd.pinned=pinned")
    names = {"example.test/one:v1", "example.test/one:v2", image["image_id"]}
    with Reader.open(directory / "images.db") as reader:
        wait_until(lambda: reader.states().keys() == names and reader.get(image["image_id"]).pinned)
    assert ours.ask("RemoveImage", named(image["image_id"][7:19])) == ("OK", {}, "")
    assert ours.images() == []
    assert containerd.ctr("images", "ls", "-q") == ""
    wait_until(lambda: theirs.images() == [])


def test_the_source_is_reported_as_followed_once_it_is(ours: Client) -> None:
    def followed() -> bool:
        conditions = ours.ask("Status", {"verbose": True}).reply["status"]["conditions"]
        return any(
            condition["type"] == "SourceFollowed" and "status" in condition for condition in conditions
        )

    wait_until(followed)


def test_reads_are_answered_while_containerd_hangs_and_a_removal_waits(
    containerd: Daemon, directory: Path, ours: Client, server: Process, tmp_path: Path
) -> None:
    tags = {name: f"example.test/{name}:v1" for name in ("one", "two", "three")}
    ids = {containerd.make_image(tmp_path / name, tag)["image_id"] for name, tag in tags.items()}
    # Each has its id as a name too, a record that containerd's CRI plugin adds later.
    with Reader.open(directory / "images.db") as reader:
        wait_until(lambda: reader.states().keys() == {*tags.values(), *ids})
    # The connection for removals exists before containerd hangs.
    assert ours.ask("RemoveImage", named("example.test/three:v1")).code == "OK"
    with containerd.suspended(), ThreadPoolExecutor(8) as pool:
        questions = [("RemoveImage", "one"), ("RemoveImage", "two"), ("PullImage", "four")]
        waiting = [
            pool.submit(ours.ask, call, named(f"example.test/{name}:v1"), 60) for call, name in questions
        ]
        assert ours.ask("ImageFsInfo").code == "OK"
        for _ in range(50):
            assert len(ours.images()) == 2
        assert not any(each.done() for each in waiting)
        # Each would wait 10 s, or the client's own minute.
        assert server.end(signal.SIGTERM, 5) == 0
        assert {each.result().code for each in waiting} <= {"UNAVAILABLE", "CANCELLED"}


def test_without_the_cri_plugin_usage_is_not_known_and_pulls_are_not_implemented(
    directory: Path, tmp_path: Path
) -> None:
    with (
        running(tmp_path / "plain", CRI) as daemon,
        serving(directory, source=f"containerd:{daemon.socket}") as server,
        server.client() as client,
    ):
        assert usage_of(client)["used_bytes"] == {}
        assert client.ask("PullImage", named("example.test/x:v1")).code == "UNIMPLEMENTED"


def test_after_a_kill_the_first_list_is_answered_without_containerd(
    containerd: Daemon, directory: Path, tmp_path: Path
) -> None:
    source = f"containerd:{containerd.socket}"
    containerd.make_image(tmp_path / "one", "example.test/one:v1")
    with serving(directory, source=source) as server, server.client() as client:
        wait_until(lambda: len(client.images()) == 1 and "repo_tags" in client.images()[0])
        before = client.images()
        server.end(signal.SIGKILL)
    containerd.end()
    with contextlib.suppress(FileNotFoundError):
        Path(containerd.socket).unlink()
    with serving(directory, source=source) as server, server.client() as client:
        assert usage_of(client)["used_bytes"] == {}  # the first calls of a kubelet and crictl
        assert client.images() == before
        condition = client.ask("Status").reply["status"]["conditions"][-1]
        assert condition["type"] == "SourceFollowed"
        assert not condition.get("status", False)
        containerd.start()
        containerd.make_image(tmp_path / "two", "example.test/two:v1")
        wait_until(lambda: len(client.images()) == 2)
