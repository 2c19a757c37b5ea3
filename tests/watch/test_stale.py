"""Stale entries of containerd's own CRI, with and without containerd's three faults."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import OCILayout
from imagekeep.cri.protocol import IMAGE_STATUS, LIST_IMAGES, REMOVE_IMAGE
from imagekeep.cri.stale import Fault, Recorded, Stale, compare, find_stale
from imagekeep.errors import FailedPreconditionError
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.connection import Connection
from imagekeep.store import Store
from tests.containerd import CRI, K8S, running, wait_until
from tests.watch.process import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.protobuf import Message, Method
    from tests.containerd import Daemon

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
APP, DIGEST = "example.test/app:v1", f"example.test/app@sha256:{'d' * 64}"
NAMES = frozenset({APP, DIGEST})


def test_equal_names_are_no_difference() -> None:
    assert compare({ONE: NAMES}, Recorded({ONE: {*NAMES, ONE}})) == set()


def test_names_are_compared_in_their_canonical_form() -> None:
    assert compare({ONE: {"docker.io/library/busybox:x"}}, Recorded({ONE: {"busybox:x", ONE}})) == set()


def test_an_image_that_no_record_names_is_stuck() -> None:
    assert compare({ONE: set(), TWO: {APP}}, Recorded({TWO: {APP}})) == {Stale(ONE, Fault.STUCK, ONE)}


def test_names_missing_from_the_cri_are_lost() -> None:
    expected = {Stale(APP, Fault.LOST, ONE), Stale(DIGEST, Fault.LOST, ONE)}
    assert compare({ONE: set()}, Recorded({ONE: NAMES})) == expected
    assert compare({}, Recorded({ONE: NAMES})) == expected


def test_an_unnamed_image_missing_from_the_cri_is_lost() -> None:
    assert compare({}, Recorded({ONE: {ONE}})) == {Stale(ONE, Fault.LOST, ONE)}


def test_a_name_without_a_record_stays() -> None:
    assert compare({ONE: NAMES}, Recorded({ONE: {APP}})) == {Stale(DIGEST, Fault.LINGERING, ONE)}


def test_a_name_of_the_wrong_image_is_lost_for_one_and_stays_for_the_other() -> None:
    found = compare({ONE: {APP}, TWO: set()}, Recorded({ONE: {ONE}, TWO: {APP, TWO}}))
    assert found == {Stale(APP, Fault.LOST, TWO), Stale(APP, Fault.LINGERING, ONE)}


@pytest.mark.parametrize("shown", [{}, {ONE: frozenset({APP})}, {ONE: frozenset[str]()}])
def test_an_unreadable_image_is_not_compared(shown: dict[str, frozenset[str]]) -> None:
    assert compare(shown, Recorded({}, {APP, ONE})) == set()


def test_only_containerd_has_a_cri_to_compare_with(store_path: Path, tmp_path: Path) -> None:
    other = Containerd(str(tmp_path / "grpc"), namespace="default")
    for source in (OCILayout(tmp_path), other):
        with (
            Store.open(store_path, source=source) as store,
            pytest.raises(FailedPreconditionError, match="only containerd has a CRI"),
        ):
            find_stale(store)


def test_a_change_the_cri_has_yet_to_follow_is_not_reported(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[dict[str, set[str]]] = [{TWO: {APP}}, {TWO: {APP}, ONE: {DIGEST}}]
    monkeypatch.setattr("imagekeep.cri.stale._shown", lambda connection: looks.pop(0))
    monkeypatch.setattr("imagekeep.cri.stale._recorded", lambda store: Recorded({ONE: {DIGEST}, TWO: {ONE}}))
    with Store.open(store_path, source=Containerd(str(tmp_path / "grpc"))) as store:
        assert find_stale(store, pause=0) == [Stale(APP, Fault.LINGERING, TWO)]


class Fixture:
    """A containerd with its CRI, a store that follows it, and clients of both."""

    def __init__(self, daemon: Daemon, directory: Path, connection: Connection) -> None:
        self.daemon = daemon
        self.node = Node(directory, f"containerd:{daemon.socket}")
        self._connection = connection

    def ask(self, method: Method[Any, Any], **fields: Any) -> Message:
        """Call containerd's CRI."""
        return self._connection.call(method, method.request(**fields), timeout=30)

    def shown(self) -> dict[str, list[str]]:
        """Return the tags of each image that containerd's CRI lists."""
        return {image.id: list(image.repo_tags) for image in self.ask(LIST_IMAGES).images}

    def records(self) -> set[str]:
        """Return the names of containerd's records."""
        return set(self.daemon.ctr("images", "ls", "-q").split())

    def kept(self) -> dict[str, list[str]]:
        """Return the tags of each image that imagekeep lists, after a sync."""
        assert self.node.run("sync").returncode == 0
        images = json.loads(self.node.run("images", "-o", "json").stdout)["images"]
        return {image["id"]: list(image["repoTags"]) for image in images}

    def differences(self) -> set[tuple[str, str]]:
        """Return the differences that `diff --cri` prints, and check its exit code."""
        done = self.node.run("diff", "--cri", "-o", "json")
        document = json.loads(done.stdout)
        assert document["differences"] == []
        assert done.returncode == (1 if document["cri"] else 0)
        return {(stale["difference"], stale["name"]) for stale in document["cri"]}

    def restart(self) -> None:
        """Restart containerd, and wait until its CRI has read every image."""
        self.daemon.end()
        self.daemon.start()
        wait_until(lambda: self.node.run("diff", "--cri").returncode in (0, 1))


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[Fixture]:
    with (
        running(tmp_path / "containerd") as daemon,
        closing(Connection(daemon.socket, K8S)) as connection,
    ):
        yield Fixture(daemon, tmp_path, connection)


@pytest.fixture
def image_id(fixture: Fixture, tmp_path: Path) -> str:
    """Import an image, and return its id once containerd's CRI shows it."""
    image_id = str(fixture.daemon.make_image(tmp_path / "image", APP)["image_id"])
    wait_until(lambda: fixture.shown() == {image_id: [APP]})
    return image_id


def test_nothing_stale_is_no_difference(fixture: Fixture, image_id: str) -> None:
    assert fixture.kept() == {image_id: [APP]}
    assert fixture.differences() == set()


def test_the_stuck_image(fixture: Fixture, tmp_path: Path) -> None:
    """Guards https://github.com/containerd/containerd/issues/14080."""
    daemon = fixture.daemon
    layout = tmp_path / "stuck"
    image_id = daemon.make_image(layout, APP)["image_id"]
    daemon.ctr("images", "import", "--no-unpack", "--index-name", "foo", layout.with_suffix(".tar"))
    wait_until(lambda: fixture.records() == {APP, "foo", image_id})
    daemon.ctr("images", "rm", "foo")
    daemon.ctr("images", "rm", APP)
    wait_until(lambda: fixture.shown() == {image_id: []})
    fixture.ask(REMOVE_IMAGE, image={"image": image_id})
    assert fixture.records() == set()
    assert fixture.shown() == {image_id: []}

    assert fixture.kept() == {}
    assert fixture.differences() == {("stuck", image_id)}
    fixture.restart()
    assert fixture.differences() == set()


def test_the_lost_tag(fixture: Fixture, image_id: str) -> None:
    upper = "example.test/app:V1"
    fixture.daemon.ctr("images", "tag", APP, upper)
    wait_until(lambda: fixture.shown() == {image_id: [upper, APP]})
    fixture.daemon.ctr("images", "rm", upper)
    wait_until(lambda: fixture.shown() == {image_id: []})
    assert fixture.records() == {APP, image_id}
    assert fixture.ask(IMAGE_STATUS, image={"image": APP}).image.repo_tags == []

    assert fixture.kept() == {image_id: [APP]}
    assert fixture.differences() == {("lost", APP)}
    fixture.restart()
    assert fixture.differences() == set()


def test_the_tag_that_stays(fixture: Fixture, image_id: str) -> None:
    gone, other = "docker.io/library/busybox:x", "docker.io/library/other:y"
    fixture.daemon.ctr("images", "tag", image_id, "busybox:x")
    fixture.daemon.ctr("images", "tag", image_id, "other:y")
    wait_until(lambda: fixture.shown() == {image_id: [gone, other, APP]})
    fixture.daemon.ctr("images", "rm", "busybox:x")
    assert fixture.records() == {APP, "other:y", image_id}

    assert fixture.kept() == {image_id: [other, APP]}
    assert fixture.differences() == {("stays", gone)}
    assert fixture.shown() == {image_id: [gone, other, APP]}
    fixture.restart()
    assert fixture.differences() == set()


def test_a_table_explains_each_difference(fixture: Fixture, image_id: str) -> None:
    fixture.daemon.ctr("images", "tag", APP, "example.test/app:V1")
    fixture.daemon.ctr("images", "rm", "example.test/app:V1")
    wait_until(lambda: fixture.shown() == {image_id: []})
    fixture.kept()
    heading, row = fixture.node.run("diff", "--cri").stdout.splitlines()
    assert heading.split() == ["CONTAINERD'S", "CRI", "DIFFERENCE", "IMAGE", "ID", "MEANING"]
    assert row.split(maxsplit=3) == [APP, "lost", image_id[7:20], "missing from the CRI"]


def test_differences_of_the_store_and_of_the_cri_are_shown_separately(
    fixture: Fixture, image_id: str
) -> None:
    done = fixture.node.run("diff", "--cri", "-o", "json")
    document = json.loads(done.stdout)
    assert {each["reference"] for each in document["differences"]} == {APP, image_id}
    assert (document["cri"], done.returncode) == ([], 1)
    assert not fixture.node.store.exists()


def test_a_disabled_cri_is_a_specific_error(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon:
        daemon.make_image(tmp_path / "image", APP)
        done = Node(tmp_path, f"containerd:{daemon.socket}").run("diff", "--cri")
    assert done.returncode == 125
    assert done.stdout == ""
    assert f"containerd at {daemon.socket} has no CRI image service (" in done.stderr
