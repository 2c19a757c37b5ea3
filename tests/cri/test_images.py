"""The image service on a layout, called by a real client."""

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
    """Return a store synced with the layout `busybox`."""
    write_layout(tmp_path / "busybox")
    with opened(store_path, tmp_path / "busybox") as store:
        sync(store)
        yield store


@pytest.fixture
def fields(store: Store, store_path: Path, tmp_path: Path) -> dict[str, Any]:
    """Return the server configuration for that store."""
    return {"store_factory": functools.partial(opened, store_path, tmp_path / "busybox")}


@pytest.fixture
def client(fields: dict[str, Any], begin: Serve) -> Client:
    """Serve that store, and return a client."""
    return begin(**fields)


def test_images_are_listed_in_the_order_of_their_ids(client: Client) -> None:
    ids = [image["id"] for image in client.images()]
    assert len(ids) == 2
    assert ids == sorted(ids)


def test_a_stream_equals_a_list(client: Client) -> None:
    (batch,) = client.ask("StreamImages").reply
    assert batch["images"] == client.images()


def test_a_stream_comes_in_batches(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagekeep.cri.listing.STREAM_BATCH", 1)
    batches = client.ask("StreamImages").reply
    assert [len(batch["images"]) for batch in batches] == [1, 1]
    assert [batch["images"][0] for batch in batches] == client.images()


def test_a_stream_of_no_images_is_empty(begin: Serve) -> None:
    assert begin().ask("StreamImages") == ("OK", [], "")


def test_a_list_ignores_its_filter(client: Client) -> None:
    assert len(client.ask("ListImages", {"filter": named("busybox:1.35")}).reply["images"]) == 2


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("busybox:1.35", [["docker.io/library/busybox:1.35"]]),
        ("nope:v1", []),
        ("", [["docker.io/library/busybox:1.35"], 2]),
    ],
)
def test_a_filter_is_applied_with_the_option(
    name: str, tags: list[Any], fields: dict[str, Any], begin: Serve
) -> None:
    client = begin(**fields, filter_images=True)
    images = client.ask("ListImages", {"filter": named(name)}).reply.get("images", [])
    if not name:
        assert len(images) == 2
    else:
        assert [image["repo_tags"] for image in images] == tags


def test_a_write_shows_in_the_next_list(client: Client, store: Store) -> None:
    before = client.images()
    store.apply("example.test/new:v1", None)
    store.add(Image("sha256:" + "1" * 64, ("example.test/new:v1",), "", 7, False, b'{"config":{"User":"0"}}'))
    after = client.images()
    assert [image for image in after if image not in before] == [
        {"id": "sha256:" + "1" * 64, "repo_tags": ["example.test/new:v1"], "size": "7", "uid": {}}
    ]


def test_an_unpin_shows_in_the_next_list(client: Client, store: Store) -> None:
    (pinned,) = [image for image in client.images() if image.get("pinned")]
    for reference in store.get(pinned["id"]).references:
        store.unpin(pinned["id"], reference)
    assert not [image for image in client.images() if image.get("pinned")]


def test_an_image_with_an_invalid_config_is_listed_without_a_user(client: Client, store: Store) -> None:
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


def test_a_read_only_source_refuses_a_removal(client: Client) -> None:
    answer = client.ask("RemoveImage", named("busybox:1.35"))
    assert answer.code == "FAILED_PRECONDITION"
    assert "read-only" in answer.details
    assert len(client.images()) == 2


def test_removing_an_unknown_image_succeeds_with_any_source(client: Client) -> None:
    assert client.ask("RemoveImage", named("nope:v1")) == ("OK", {}, "")


def test_without_a_source_a_removal_is_refused(begin: Serve, store: Store) -> None:
    answer = begin().ask("RemoveImage", named("busybox:1.35"))
    assert (answer.code, "without a source" in answer.details) == ("FAILED_PRECONDITION", True)


def test_a_pull_without_a_cri_is_refused(client: Client) -> None:
    answer = client.ask("PullImage", named("busybox:1.35"))
    assert (answer.code, "its source" in answer.details) == ("UNIMPLEMENTED", True)


def test_usage_without_a_cri_is_empty(client: Client, tmp_path: Path) -> None:
    (usage,) = client.ask("ImageFsInfo").reply["image_filesystems"]
    assert usage["fs_id"] == {"mountpoint": str(tmp_path)}


def test_version_has_the_fields_that_clients_check(client: Client) -> None:
    reply = client.ask("Version").reply
    assert reply.pop("runtime_version")
    assert reply == {"version": "0.1.0", "runtime_name": "imagekeep", "runtime_api_version": "v1"}


def test_status_reports_that_containers_are_not_supported(client: Client) -> None:
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


def test_bytes_that_are_not_a_message_are_refused(client: Client) -> None:
    call: Any = client.channel.unary_unary("/runtime.v1.ImageService/ImageStatus")
    with pytest.raises(grpc.RpcError) as failure:
        call(b"\x0a\x04\x0a\x02\xff\xfe", timeout=5)
    assert failure.value.code() is grpc.StatusCode.INTERNAL


def test_a_cached_status_follows_the_store(client: Client, store: Store) -> None:
    name, moved_to = "docker.io/library/busybox:1.35", "sha256:" + "5" * 64
    assert client.status(name).reply["image"]["id"] == store.resolve(name)
    store.add(Image(moved_to, (name,), "", 1, False, b"{}"))
    assert client.status(name).reply["image"]["id"] == moved_to


def test_statuses_beyond_the_cache_are_answered(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagekeep.cri.images.STATUSES_MAX", 1)
    names = ("busybox:1.35", "busybox:1.36", "busybox:1.35", "busybox:1.36")
    tags = [client.status(name).reply["image"]["repo_tags"][0] for name in names]
    assert tags == [f"docker.io/library/{name}" for name in names]
