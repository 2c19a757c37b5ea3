"""Differences between a store and its source: each kind, and that comparing changes neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.diff import Difference, DifferenceKind, find_differences
from imagekeep.errors import PermissionDeniedError, SourceFaultError, SourceUnavailableError
from imagekeep.internals import watcher_lock
from imagekeep.store import Store
from imagekeep.sync import sync
from tests.images import LayoutWriter, named
from tests.model import everything
from tests.watch.process import Node
from tests.watch.test_following import APP, OTHER
from tests.watch.watched import raising

if TYPE_CHECKING:
    from tests.watch.watched import WatchedSource


@pytest.fixture
def image_id(store: Store, source: WatchedSource) -> str:
    """Return the id of the image that store and source agree on."""
    image_id = source.put(APP, 1)
    sync(store)
    return image_id


def only(store: Store) -> Difference:
    """Return the only difference, and check that comparing changed nothing."""
    before = everything(store), store.incomplete()
    [difference] = find_differences(store, [0])
    assert (everything(store), store.incomplete()) == before
    return difference


def test_images_that_agree_are_no_difference_and_are_not_read(
    store: Store, source: WatchedSource, image_id: str
) -> None:
    source.reads = source.asked = 0
    assert find_differences(store) == []
    assert (source.reads, source.asked) == (0, 0)


def test_added(store: Store, source: WatchedSource, image_id: str) -> None:
    added = source.put(OTHER, 2)
    assert only(store) == Difference(OTHER, DifferenceKind.ADDED, None, added)


def test_gone(store: Store, source: WatchedSource, image_id: str) -> None:
    source.remove(APP)
    assert only(store) == Difference(APP, DifferenceKind.GONE, image_id, None)


def test_moved(store: Store, source: WatchedSource, image_id: str) -> None:
    moved = source.put(APP, 2)
    assert only(store) == Difference(APP, DifferenceKind.MOVED, image_id, moved)


def test_pinned_and_unpinned(store: Store, source: WatchedSource, image_id: str) -> None:
    source.put(APP, 1, pinned=True)
    assert only(store) == Difference(APP, DifferenceKind.PINNED, image_id, image_id)
    sync(store)
    source.put(APP, 1)
    assert only(store) == Difference(APP, DifferenceKind.UNPINNED, image_id, image_id)


def test_incomplete(store: Store, source: WatchedSource, image_id: str) -> None:
    source.put(APP, 2)
    source.break_image(APP)
    found = only(store)
    assert (found.reference, found.kind, found.store_id, found.source_id) == (
        APP,
        DifferenceKind.INCOMPLETE,
        image_id,
        None,
    )
    assert found.detail == f"no blob {source.target(APP).digest}"


def test_an_image_that_the_source_cannot_read_is_incomplete(
    store: Store, source: WatchedSource, image_id: str
) -> None:
    source.put(OTHER, 2)
    fail = raising(SourceFaultError("input/output error"))
    source.at("before read", fail)
    source.at("after records", lambda: source.at("after records", lambda: source.at("before read", fail)))
    assert only(store) == Difference(OTHER, DifferenceKind.INCOMPLETE, None, None, "input/output error")


def test_a_change_followed_between_two_checks_is_no_difference(
    store: Store, source: WatchedSource, image_id: str
) -> None:
    source.put(OTHER, 2)
    source.remove(APP)
    follow = Store.open(store.path, source=source, platform="linux/amd64")
    source.at("after records", lambda: follow.sync([APP, OTHER]))
    with follow:
        assert find_differences(store, [0]) == []


def test_a_reference_that_moves_again_between_two_checks_is_one_difference(
    store: Store, source: WatchedSource, image_id: str
) -> None:
    source.put(APP, 2)
    moved: list[str] = []
    move = lambda: moved.append(source.put(APP, 3))  # noqa: E731
    source.at("after records", lambda: source.at("before records", move))
    [difference] = find_differences(store, [0])
    assert difference == Difference(APP, DifferenceKind.MOVED, image_id, moved[0])


def test_a_watched_store_gets_a_third_check(store: Store, source: WatchedSource, image_id: str) -> None:
    source.put(OTHER, 2)
    with watcher_lock(store):
        source.calls.clear()
        assert len(find_differences(store, [0, 0])) == 1
        assert source.calls == ["records"] * 3
    source.calls.clear()
    assert len(find_differences(store, [0, 0])) == 1
    assert source.calls == ["records"] * 2


@pytest.mark.parametrize("error", [SourceUnavailableError("away"), PermissionDeniedError("not ours")])
def test_a_failing_source_is_an_error_and_no_difference(
    error: SourceUnavailableError | PermissionDeniedError, store: Store, source: WatchedSource
) -> None:
    source.put(OTHER, 2)
    source.at("before read", raising(error))
    with pytest.raises(type(error)):
        find_differences(store)


def test_an_invalid_name_is_shown_with_the_reason(store: Store, source: WatchedSource) -> None:
    source.put("x" * 100_000, 1)
    found = only(store)
    assert found.kind is DifferenceKind.INCOMPLETE
    assert "name longer than" in found.detail


def test_differences_are_ordered_by_name(store: Store, source: WatchedSource) -> None:
    for name in ("b", "c", "a"):
        source.put(name, 1)
    assert [difference.reference for difference in find_differences(store)] == ["a", "b", "c"]


@pytest.fixture
def node(tmp_path: Path) -> tuple[Node, LayoutWriter]:
    """Return a store synced with a layout of one image, and the layout."""
    layout = LayoutWriter(tmp_path / "shop")
    node = Node(tmp_path, f"oci:{layout.directory}")
    layout.write_index([named(layout.image(), "v1")])
    assert node.run("--platform", "linux/amd64", "sync").returncode == 0
    return node, layout


def diff(node: Node, *options: str) -> tuple[int, str]:
    done = node.run("--platform", "linux/amd64", "diff", *options)
    return done.returncode, done.stdout


def test_the_exit_code_is_1_if_they_differ(node: tuple[Node, LayoutWriter]) -> None:
    assert diff(node[0]) == (0, "")
    node[1].write_index([])
    assert diff(node[0])[0] == 1


def test_unreadable_references_are_shown_and_count_only_with_the_option(
    node: tuple[Node, LayoutWriter],
) -> None:
    entry = named(node[1].image(), "v1")
    missing = {**node[1].image(environment=["A=b"]), "digest": f"sha256:{'0' * 64}"}
    node[1].write_index([entry, named(missing, "broken")])
    code, out = diff(node[0])
    assert (code, out.count("incomplete")) == (0, 2)
    assert diff(node[0], "--incomplete")[0] == 1
    node[1].write_index([named(missing, "broken")])
    assert diff(node[0])[0] == 1


def test_the_table_has_both_image_ids(node: tuple[Node, LayoutWriter]) -> None:
    _, layout = node
    layout.write_index([named(image := layout.image(environment=["A=B"]), "v1")])
    code, out = diff(node[0])
    heading, moved, *_ = [line.split() for line in out.splitlines()]
    assert code == 1
    assert heading == ["REFERENCE", "DIFFERENCE", "STORE", "SOURCE"]
    assert moved[:2] == ["docker.io/library/shop:v1", "moved"]
    assert moved[3] == layout.config_digest(image)[7:20]
    assert diff(node[0], "-n")[1].splitlines()[0] == out.splitlines()[1]


def test_the_document_has_every_field(node: tuple[Node, LayoutWriter]) -> None:
    node[1].write_index([])
    _, out = diff(node[0], "-o", "json")
    first = json.loads(out)["differences"][0]
    assert first.pop("storeId").startswith("sha256:")
    assert first == {
        "reference": "docker.io/library/shop:v1",
        "difference": "gone",
        "sourceId": None,
        "detail": None,
    }


def test_a_missing_store_is_not_created(node: tuple[Node, LayoutWriter], tmp_path: Path) -> None:
    other = Node(tmp_path / "empty", f"oci:{node[1].directory}")
    code, _ = diff(other)
    assert code == 1
    assert not Path(other.store).exists()


def test_the_cri_of_a_layout_is_refused(node: tuple[Node, LayoutWriter]) -> None:
    done = node[0].run("--platform", "linux/amd64", "diff", "--cri")
    assert done.returncode == 4
    assert "only containerd has a CRI" in done.stderr
