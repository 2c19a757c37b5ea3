"""Acting on a real containerd: it changes first, and the store follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    FailedPreconditionError,
    ImageNotFoundError,
    ImagePinnedError,
    InvalidReferenceError,
    ReadOnlySourceError,
    SourceUnavailableError,
)
from imagekeep.image import PINNED_LABEL
from imagekeep.image_actions import Action, ActionResult, Actions
from imagekeep.sources.archive import Archive
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.store import Store
from imagekeep.sync import sync
from tests.containerd import CONFIGURATION, running, wait_until
from tests.images import LayoutWriter, tar_of_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep import ImageRecord
    from tests.containerd import Daemon

APP = "docker.io/library/app:v1"
SECOND = "example.test/app:v2"


@pytest.fixture
def source(daemon: Daemon, namespace: str) -> Iterator[Containerd]:
    with Containerd(daemon.socket, namespace=namespace) as source:
        yield source


@pytest.fixture
def store(store_path: Path, source: Containerd) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        yield store


@pytest.fixture
def image_id(daemon: Daemon, namespace: str, tmp_path: Path) -> str:
    """Return the id of an image with two references, of which the store does not know yet."""
    image = daemon.make_image(tmp_path / "image", APP, SECOND, namespace=namespace)
    return str(image["image_id"])


def names(source: Containerd) -> list[str]:
    return sorted(record.reference for record in source.records())


@pytest.mark.parametrize("word", [APP, "app:v1", SECOND, "id", "truncated id"])
def test_an_image_is_removed_by_any_of_its_names_with_all_its_references(
    word: str, image_id: str, store: Store, source: Containerd
) -> None:
    word = {"id": image_id, "truncated id": image_id[7:19]}.get(word, word)
    outcomes = Actions.begin(store).remove(word)
    assert outcomes == [
        ActionResult(Action.UNTAGGED, APP),
        ActionResult(Action.UNTAGGED, SECOND),
        ActionResult(Action.DELETED, image_id),
    ]
    assert names(source) == []
    assert store.list() == []


def test_the_last_reference_is_removed_synchronously_and_the_content_goes(
    image_id: str, store: Store, source: Containerd
) -> None:
    target = source.get(APP).target
    assert source.info(target.digest)
    Actions.begin(store).remove(APP)
    with pytest.raises(ContentNotFoundError):
        source.info(target.digest)


def test_each_outcome_is_told_when_it_is_true(image_id: str, store: Store, source: Containerd) -> None:
    left: list[tuple[Action, list[str], int]] = []
    actions = Actions.begin(
        store, lambda outcome: left.append((outcome.action, names(source), len(store.list())))
    )
    actions.remove(APP)
    assert left == [(Action.UNTAGGED, [SECOND], 1), (Action.UNTAGGED, [], 0), (Action.DELETED, [], 0)]


def test_a_store_that_is_behind_is_brought_up_to_date_before_anything_is_removed(
    daemon: Daemon, namespace: str, image_id: str, store: Store, source: Containerd, tmp_path: Path
) -> None:
    sync(store)
    other = daemon.make_image(tmp_path / "other", APP, namespace=namespace)
    daemon.ctr("images", "tag", SECOND, "example.test/app:v3", namespace=namespace)
    outcomes = Actions.begin(store).remove(image_id)
    assert outcomes == [
        ActionResult(Action.UNTAGGED, SECOND),
        ActionResult(Action.UNTAGGED, "example.test/app:v3"),
        ActionResult(Action.DELETED, image_id),
    ]
    assert names(source) == [APP]
    assert [image.id for image in store.list()] == [other["image_id"]]


def test_a_reference_that_went_meanwhile_is_no_failure(
    image_id: str, store: Store, source: Containerd
) -> None:
    actions = Actions.begin(store)
    source.remove(APP)
    assert actions.remove(image_id)[-1] == ActionResult(Action.DELETED, image_id)


def test_an_image_that_is_not_there_is_not_found(store: Store, image_id: str) -> None:
    actions = Actions.begin(store)
    for act in (actions.remove, actions.untag, actions.pin, actions.unpin):
        with pytest.raises(ImageNotFoundError):
            act("example.test/nothing:v1")


def test_a_pinned_image_is_not_removed_and_nothing_is_changed(
    image_id: str, store: Store, source: Containerd
) -> None:
    source.pin(SECOND)
    actions = Actions.begin(store)
    with pytest.raises(ImagePinnedError, match=image_id):
        actions.remove(APP)
    assert names(source) == [APP, SECOND]
    assert store.get(image_id).pinned


def test_a_pinned_image_is_removed_when_forced(image_id: str, store: Store, source: Containerd) -> None:
    source.pin(SECOND)
    assert Actions.begin(store).remove(APP, force=True)[-1] == ActionResult(Action.DELETED, image_id)
    assert names(source) == []


@pytest.mark.parametrize("word", [APP, "app:v1"])
def test_untagging_takes_one_reference_and_leaves_the_image(
    word: str, image_id: str, store: Store, source: Containerd
) -> None:
    assert Actions.begin(store).untag(word) == [ActionResult(Action.UNTAGGED, APP)]
    assert names(source) == [SECOND]
    assert store.get(image_id).references == (SECOND,)


def test_untagging_the_last_reference_deletes_the_image(image_id: str, store: Store) -> None:
    actions = Actions.begin(store)
    actions.untag(APP)
    assert actions.untag(SECOND) == [
        ActionResult(Action.UNTAGGED, SECOND),
        ActionResult(Action.DELETED, image_id),
    ]
    assert store.list() == []


def test_untagging_takes_the_name_as_given_before_its_canonical_form(
    daemon: Daemon, namespace: str, image_id: str, store: Store, source: Containerd
) -> None:
    daemon.ctr("images", "tag", APP, "app:v1", namespace=namespace)
    assert Actions.begin(store).untag("app:v1") == [ActionResult(Action.UNTAGGED, "app:v1")]
    assert names(source) == [APP, SECOND]


def test_an_image_that_cannot_be_read_can_still_be_untagged(
    daemon: Daemon, namespace: str, image_id: str, store: Store, source: Containerd
) -> None:
    daemon.ctr("content", "rm", source.get(APP).target.digest, namespace=namespace)
    assert Actions.begin(store).untag(APP) == [ActionResult(Action.UNTAGGED, APP)]
    assert names(source) == [SECOND]


def test_a_reference_that_pins_is_not_untagged_unless_forced(
    image_id: str, store: Store, source: Containerd
) -> None:
    source.pin(APP)
    actions = Actions.begin(store)
    with pytest.raises(ImagePinnedError, match=APP):
        actions.untag(APP)
    assert names(source) == [APP, SECOND]
    assert actions.untag(APP, force=True) == [ActionResult(Action.UNTAGGED, APP)]
    assert not store.get(image_id).pinned


def test_pinning_and_unpinning_one_reference(image_id: str, store: Store, source: Containerd) -> None:
    actions = Actions.begin(store)
    assert actions.pin("app:v1") == [ActionResult(Action.PINNED, APP)]
    assert source.get(APP).labels == {PINNED_LABEL: "pinned"}
    assert source.get(SECOND).labels == {}
    assert (store.is_pinned(image_id, APP), store.is_pinned(image_id, SECOND)) == (True, False)
    assert actions.unpin("app:v1") == [ActionResult(Action.UNPINNED, APP)]
    assert source.get(APP).labels == {}
    assert not store.get(image_id).pinned


def test_pinning_and_unpinning_all_references_of_an_image(
    image_id: str, store: Store, source: Containerd
) -> None:
    actions = Actions.begin(store)
    both = [ActionResult(Action.PINNED, APP), ActionResult(Action.PINNED, SECOND)]
    assert actions.pin(image_id[7:19], all_references=True) == both
    assert store.is_pinned(image_id, APP)
    assert store.is_pinned(image_id, SECOND)
    assert len(actions.unpin(APP, all_references=True)) == 2
    assert not any(record.pinned for record in source.records())
    assert not store.get(image_id).pinned


class PinsAgain(Containerd):
    """A containerd whose CRI plugin pins one reference again, as what its configuration pins."""

    def unpin(self, reference: str) -> ImageRecord:
        record = super().unpin(reference)
        if reference == APP:
            self.pin(reference)
        return record


def test_what_is_pinned_again_at_once_is_not_called_unpinned(
    daemon: Daemon, namespace: str, image_id: str, store_path: Path
) -> None:
    told: list[ActionResult] = []
    with (
        PinsAgain(daemon.socket, namespace=namespace) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        actions = Actions.begin(store, told.append)
        actions.pin(APP, all_references=True)
        told.clear()
        with pytest.raises(ImagePinnedError, match=f"{APP}: pinned again"):
            actions.unpin(APP, all_references=True)
        assert told == [ActionResult(Action.UNPINNED, SECOND)]
        assert (store.is_pinned(image_id, APP), store.is_pinned(image_id, SECOND)) == (True, False)


PINNED_IMAGES = f"""
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{APP}"
"""


def test_what_containerds_own_configuration_pins_is_not_called_unpinned(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.containerd.CONFIGURATION", CONFIGURATION + PINNED_IMAGES)
    with (
        running(tmp_path / "containerd") as daemon,
        Containerd(daemon.socket) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        if source.version().version.lstrip("v").startswith("1."):
            pytest.skip("containerd before 2.0 has no pinned_images")
        daemon.make_image(tmp_path / "image", APP)
        wait_until(lambda: source.get(APP).pinned)
        with pytest.raises(ImagePinnedError, match=f"{APP}: pinned again"):
            Actions.begin(store).unpin(APP)
        assert any(image.pinned for image in store.list())


def test_a_name_that_can_be_none_is_refused(store: Store, image_id: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Actions.begin(store).pin("")


def test_where_the_source_fails_the_store_says_what_it_said(
    image_id: str, store: Store, source: Containerd
) -> None:
    actions = Actions.begin(store)
    source.close()
    with pytest.raises(FailedPreconditionError, match="was closed"):
        actions.remove(APP)
    assert store.get(image_id).references == (APP, SECOND)


def test_a_source_that_is_gone_is_told(store_path: Path, tmp_path: Path) -> None:
    source = Containerd(str(tmp_path / "nothing"))
    with Store.open(store_path, source=source) as store, pytest.raises(SourceUnavailableError):
        Actions.begin(store)


@pytest.mark.parametrize("kind", ["layout", "archive"])
def test_a_source_that_is_only_read_is_refused_with_a_word_on_what_to_do(
    kind: str, store_path: Path, tmp_path: Path
) -> None:
    layout = LayoutWriter(tmp_path / "shop")
    archive = tar_of_directory(layout.directory, tmp_path / "shop.tar")
    source = OCILayout(layout.directory) if kind == "layout" else Archive(archive)
    with (
        Store.open(store_path, source=source) as store,
        pytest.raises(
            ReadOnlySourceError,
            match=r"source is read-only \(change it with the tool that made it, then sync\)",
        ),
    ):
        Actions.begin(store)


def test_a_store_without_a_source_is_refused(store_path: Path) -> None:
    with Store.open(store_path) as store, pytest.raises(FailedPreconditionError, match="without a source"):
        Actions.begin(store)


def test_the_three_records_of_the_cri_plugin_go_with_the_image(
    cri_daemon: Daemon, store_path: Path, tmp_path: Path
) -> None:
    image = cri_daemon.make_image(tmp_path / "image", "example.test/acted:v1")
    at_digest = f"example.test/acted@{image['digest']}"
    cri_daemon.ctr("images", "tag", "example.test/acted:v1", at_digest)
    records = ["example.test/acted:v1", at_digest, image["image_id"]]
    with (
        Containerd(cri_daemon.socket) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        wait_until(lambda: set(records) <= set(names(source)))
        outcomes = Actions.begin(store).remove("example.test/acted:v1")
        assert [outcome.name for outcome in outcomes] == [*records, image["image_id"]]
        assert not set(records) & set(names(source))
