"""The image service on a layout, by a real client."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.image import Image
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.store import Store
from imagekeep.sync import sync
from tests.cli.conftest import write_layout
from tests.cri.client import named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cri.client import Client
    from tests.cri.conftest import Serve


@contextmanager
def opened(path: Path, layout: Path) -> Iterator[Store]:
    with Store.open(path, source=OCILayout(layout), platform="linux/amd64") as store:
        yield store


@pytest.fixture
def store(store_path: Path, tmp_path: Path) -> Iterator[Store]:
    """Open a store that is synced with the layout `busybox`."""
    write_layout(tmp_path / "busybox")
    with opened(store_path, tmp_path / "busybox") as store:
        sync(store)
        yield store


@pytest.fixture
def fields(store: Store, store_path: Path, tmp_path: Path) -> dict[str, Any]:
    """Return how that store is served."""
    return {"store_factory": functools.partial(opened, store_path, tmp_path / "busybox")}


@pytest.fixture
def client(fields: dict[str, Any], begin: Serve) -> Client:
    """Serve that store, and return a client."""
    return begin(**fields)


def test_images_are_listed_in_the_order_of_their_ids(client: Client) -> None:
    ids = [image["id"] for image in client.images()]
    assert len(ids) == 2
    assert ids == sorted(ids)


def test_a_stream_has_what_a_list_has(client: Client) -> None:
    (batch,) = client.ask("StreamImages").reply
    assert batch["images"] == client.images()


def test_a_stream_comes_in_batches(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagekeep.cri.listing.STREAM_BATCH", 1)
    batches = client.ask("StreamImages").reply
    assert [len(batch["images"]) for batch in batches] == [1, 1]
    assert [batch["images"][0] for batch in batches] == client.images()


def test_a_stream_of_no_images_is_empty(begin: Serve) -> None:
    assert begin().ask("StreamImages") == ("OK", [], "")


def test_a_list_takes_no_notice_of_its_filter(client: Client) -> None:
    assert len(client.ask("ListImages", {"filter": named("busybox:1.35")}).reply["images"]) == 2


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("busybox:1.35", [["docker.io/library/busybox:1.35"]]),
        ("nope:v1", []),
        ("", [["docker.io/library/busybox:1.35"], 2]),
    ],
)
def test_a_filter_is_honoured_where_that_is_asked_for(
    name: str, tags: list[Any], fields: dict[str, Any], begin: Serve
) -> None:
    client = begin(**fields, filter_images=True)
    images = client.ask("ListImages", {"filter": named(name)}).reply.get("images", [])
    if not name:
        assert len(images) == 2
    else:
        assert [image["repo_tags"] for image in images] == tags


def test_what_is_written_shows_in_the_next_list(client: Client, store: Store) -> None:
    before = client.images()
    store.apply("example.test/new:v1", None)
    store.add(Image("sha256:" + "1" * 64, ("example.test/new:v1",), "", 7, False, b'{"config":{"User":"0"}}'))
    after = client.images()
    assert [image for image in after if image not in before] == [
        {"id": "sha256:" + "1" * 64, "repo_tags": ["example.test/new:v1"], "size": "7", "uid": {}}
    ]


def test_a_pin_that_is_taken_shows_in_the_next_list(client: Client, store: Store) -> None:
    (pinned,) = [image for image in client.images() if image.get("pinned")]
    for reference in store.get(pinned["id"]).references:
        store.unpin(pinned["id"], reference)
    assert not [image for image in client.images() if image.get("pinned")]


def test_an_image_whose_config_is_none_is_listed_without_a_user(client: Client, store: Store) -> None:
    store.add(Image("sha256:" + "1" * 64, ("example.test/odd:v1",), "", 7, False, b"{"))
    assert {"id": "sha256:" + "1" * 64, "repo_tags": ["example.test/odd:v1"], "size": "7"} in client.images()
    assert client.status("example.test/odd:v1").code == "OK"
    assert client.status("example.test/odd:v1", verbose=True).code == "DATA_LOSS"


@pytest.mark.parametrize("images", [0, 1])
def test_the_empty_name_is_ambiguous_however_many_images_there_are(
    images: int, begin: Serve, store_path: Path
) -> None:
    with Store.open(store_path) as store:
        for _ in range(images):
            store.add(Image("sha256:" + "1" * 64, ("example.test/a:v1",), "", 7, False, b"{}"))
    client = begin()
    for call in ("ImageStatus", "RemoveImage"):
        answer = client.ask(call, named(""))
        assert (answer.code, answer.details) == (
            "UNKNOWN",
            'can not resolve "" locally: ambiguous digest string',
        )
    assert len(client.images()) == images


def test_a_source_that_is_only_read_refuses_a_removal(client: Client) -> None:
    answer = client.ask("RemoveImage", named("busybox:1.35"))
    assert answer.code == "FAILED_PRECONDITION"
    assert "read-only" in answer.details
    assert len(client.images()) == 2


def test_removing_an_unknown_image_is_success_whatever_the_source(client: Client) -> None:
    assert client.ask("RemoveImage", named("nope:v1")) == ("OK", {}, "")


def test_without_a_source_a_removal_is_refused(begin: Serve, store: Store) -> None:
    answer = begin().ask("RemoveImage", named("busybox:1.35"))
    assert (answer.code, "without a source" in answer.details) == ("FAILED_PRECONDITION", True)


def test_a_source_without_a_cri_pulls_nothing(client: Client) -> None:
    answer = client.ask("PullImage", named("busybox:1.35"))
    assert (answer.code, "its source" in answer.details) == ("UNIMPLEMENTED", True)


def test_a_source_without_a_cri_uses_nothing(client: Client, tmp_path: Path) -> None:
    (usage,) = client.ask("ImageFsInfo").reply["image_filesystems"]
    assert usage["fs_id"] == {"mountpoint": str(tmp_path)}


def test_version_tells_a_client_what_it_looks_for(client: Client) -> None:
    reply = client.ask("Version").reply
    assert reply.pop("runtime_version")
    assert reply == {"version": "0.1.0", "runtime_name": "imagekeep", "runtime_api_version": "v1"}


def test_status_tells_that_no_containers_can_be_had(client: Client) -> None:
    conditions = {c["type"]: c for c in client.ask("Status").reply["status"]["conditions"]}
    assert [conditions[kind].get("status", False) for kind in ("RuntimeReady", "NetworkReady")] == [
        False,
        False,
    ]
    assert conditions["SourceFollowed"]["reason"] == "NoWatcher"


def test_other_calls_of_the_runtime_are_unknown_to_grpc(client: Client) -> None:
    call: Any = client.channel.unary_unary("/runtime.v1.RuntimeService/ListContainers")
    with pytest.raises(grpc.RpcError) as failure:
        call(b"", timeout=5)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_are_refused(client: Client) -> None:
    call: Any = client.channel.unary_unary("/runtime.v1.ImageService/ImageStatus")
    with pytest.raises(grpc.RpcError) as failure:
        call(b"\x0a\x04\x0a\x02\xff\xfe", timeout=5)
    assert failure.value.code() is grpc.StatusCode.INTERNAL


def test_a_status_that_was_asked_for_follows_the_store(client: Client, store: Store) -> None:
    name, moved_to = "docker.io/library/busybox:1.35", "sha256:" + "5" * 64
    assert client.status(name).reply["image"]["id"] == store.resolve(name)
    store.add(Image(moved_to, (name,), "", 1, False, b"{}"))
    assert client.status(name).reply["image"]["id"] == moved_to


def test_statuses_beyond_those_that_are_kept_are_answered_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.images.STATUSES_MAX", 1)
    names = ("busybox:1.35", "busybox:1.36", "busybox:1.35", "busybox:1.36")
    tags = [client.status(name).reply["image"]["repo_tags"][0] for name in names]
    assert tags == [f"docker.io/library/{name}" for name in names]
