"""Calls forwarded to containerd's CRI, here a fake that records them."""

from __future__ import annotations

import contextlib
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from imagekeep.cri.cri_proxy import cri_socket_of
from imagekeep.cri.protocol import IMAGE_FS_INFO, PULL_IMAGE
from imagekeep.image import ImageRecord
from imagekeep.internals import data_version, image_filesystem
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.store import Store
from tests.containerd import wait_until
from tests.cri.client import Client, named
from tests.cri.recorded import RecordedSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cri.conftest import Serve

SECRET = "hunter2-and-more"
ID = "sha256:" + "1" * 64
USAGE = {
    "image_filesystems": [
        {"timestamp": "7", "fs_id": {"mountpoint": "/x"}, "used_bytes": {"value": "8"}, "inodes_used": {}}
    ]
}


class FakeCRI:
    """Answers PullImage and ImageFsInfo as the test sets, and records the requests."""

    def __init__(self, path: Path) -> None:
        self.socket = str(path)
        self.requests: list[bytes] = []
        self._free = threading.Event()
        self._free.set()
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        handlers: dict[str, Any] = {
            "PullImage": grpc.unary_unary_rpc_method_handler(
                self._answer(PULL_IMAGE.response(image_ref=ID).SerializeToString())
            ),
            "ImageFsInfo": grpc.unary_unary_rpc_method_handler(
                self._answer(ParseDict(USAGE, IMAGE_FS_INFO.response()).SerializeToString())
            ),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("runtime.v1.ImageService", handlers)]
        )
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def _answer(self, reply: bytes) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            self.requests.append(request)
            self._free.wait()
            if self.refusal is not None:
                context.abort(*self.refusal)
            return reply

        return answer

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop answering until the context ends."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def close(self) -> None:
        self._server.stop(0).wait()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCRI]:
    fake = FakeCRI(tmp_path / "containerd.sock")
    yield fake
    fake.close()


@pytest.fixture
def client(fake: FakeCRI, begin: Serve, store_path: Path) -> Client:
    """Serve a store whose source's CRI is `fake`."""
    source = RecordedSource()
    target = Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "2" * 64, 1)
    source.by_name = {"example.test/a:v1": ImageRecord("example.test/a:v1", target, {})}
    with Store.open(store_path):
        pass
    # The server has its own store, because a thread may still write to it when the test closes the other.
    return begin(store_factory=lambda: Store.open(store_path, source=source), cri_socket=fake.socket)


def test_a_pull_is_forwarded_byte_for_byte(
    client: Client, fake: FakeCRI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    request = PULL_IMAGE.request()
    request.image.image = "example.test/a:v1"
    request.image.annotations["k"] = "v"
    request.image.runtime_handler = "runc"
    request.auth.password = SECRET
    encoded = (
        request.SerializeToString() + b"\x1a\x04\x12\x02pd"
    )  # a sandbox_config, which imagekeep's .proto does not declare
    call: Any = client.channel.unary_unary(PULL_IMAGE.path)
    with pytest.raises(grpc.RpcError) as failure:
        call(encoded, timeout=10)
    assert fake.requests == [encoded]
    # The pull succeeded; this source cannot read the pulled documents.
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert SECRET not in str(failure.value.details())
    assert SECRET not in caplog.text


@pytest.mark.parametrize("words", ["insufficient_scope: <é>", "é" * 20_000], ids=["short", "long"])
def test_an_error_is_returned_unchanged(words: str, client: Client, fake: FakeCRI) -> None:
    fake.refusal = grpc.StatusCode.PERMISSION_DENIED, words
    answer = client.ask("PullImage", named("example.test/a:v1"))
    assert (answer.code, answer.details) == ("PERMISSION_DENIED", words)


def test_usage_is_the_cris_last_reply_if_it_does_not_answer(client: Client, fake: FakeCRI) -> None:
    said = client.ask("ImageFsInfo")
    assert said == ("OK", USAGE, "")
    fake.refusal = grpc.StatusCode.UNAVAILABLE, "server is not initialized yet"
    assert client.ask("ImageFsInfo") == said
    fake.close()
    assert client.ask("ImageFsInfo") == said


def test_usage_is_the_cris_last_reply_after_a_start_without_it(
    fake: FakeCRI, begin: Serve, store_path: Path
) -> None:
    def opening() -> Store:
        return Store.open(store_path, source=RecordedSource())

    said = begin(store_factory=opening, cri_socket=fake.socket).ask("ImageFsInfo")
    with Store.open(store_path) as store:
        wait_until(lambda: image_filesystem(store) is not None)
    fake.close()
    (then,) = said.reply["image_filesystems"]
    begin(store_factory=opening, cri_socket=fake.socket, path=store_path.with_name("later.sock"))
    with Client(store_path.with_name("later.sock")) as client:
        (now,) = client.ask("ImageFsInfo").reply["image_filesystems"]
    # The store keeps microseconds only.
    assert int(now.pop("timestamp", 0)) == int(then.pop("timestamp")) // 1000 * 1000
    assert now == then


def test_recent_usage_is_not_recorded_again(client: Client, store_path: Path) -> None:
    client.ask("ImageFsInfo")
    with Store.open(store_path) as store:
        wait_until(lambda: image_filesystem(store) is not None)
        version = data_version(store)
        client.ask("ImageFsInfo")
        client.ask("Version")
        assert data_version(store) == version


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNKNOWN", "UNIMPLEMENTED", "PERMISSION_DENIED"])
def test_a_client_can_start_whatever_the_state_of_the_cri(code: str, client: Client, fake: FakeCRI) -> None:
    fake.refusal = grpc.StatusCode[code], "server is not initialized yet"
    (usage,) = client.ask("ImageFsInfo").reply["image_filesystems"]
    assert (usage["used_bytes"], usage["inodes_used"]) == ({}, {})


def test_a_hanging_cri_does_not_block_clients_that_start(
    client: Client, fake: FakeCRI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.images.USAGE_WAIT", 0.2)
    with fake.hanging():
        assert client.ask("ImageFsInfo", timeout=10).code == "OK"


def test_only_the_cris_namespace_is_forwarded() -> None:
    assert cri_socket_of(Containerd("/run/x.sock")) == "/run/x.sock"
    assert cri_socket_of(Containerd("/run/x.sock", namespace="moby")) is None
    assert cri_socket_of(OCILayout("/nowhere")) is None
