"""Clients that flood, hang or stop midway: they are disconnected, and others are answered meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import resource
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.cri.handlers import REPLIES_BYTES_MAX, SMALL_REPLY_BYTES, Replies, RpcError
from imagekeep.cri.server import CONNECTIONS_MAX, DESCRIPTORS, SERVER_OPTIONS
from imagekeep.cri.server_info import REFLECT
from imagekeep.image import Image
from imagekeep.store import Store
from tests.containerd import wait_until
from tests.cri.client import Client, named
from tests.cri.process import serving
from tests.cri.raw import DATA, HEADERS, LIST, SETTINGS, RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cri.conftest import Serve


@pytest.fixture
def raw(socket: Path) -> Iterator[RawClient]:
    client = RawClient(socket)
    yield client
    client.close()


@pytest.fixture
def raw_later(socket: Path) -> Iterator[Callable[[], RawClient]]:
    """Return a function that connects to a server started later."""
    with contextlib.ExitStack() as stack:

        def connect() -> RawClient:
            client = RawClient(socket)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def client(begin: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Serve with short timeouts, and return a well-behaved client."""
    monkeypatch.setattr("imagekeep.cri.handlers.RECEIVE_TIMEOUT", 0.2)
    return begin()


def with_options(begin: Serve, monkeypatch: pytest.MonkeyPatch, **milliseconds: int) -> Client:
    """Serve with other connection timeouts than the defaults."""
    own, others = dict(SERVER_OPTIONS), {f"grpc.{name}_ms": value for name, value in milliseconds.items()}
    assert others.keys() <= own.keys()
    monkeypatch.setattr("imagekeep.cri.server.SERVER_OPTIONS", tuple({**own, **others}.items()))
    return begin()


@pytest.fixture
def impatient(begin: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Serve with short connection timeouts."""
    times = {"server_handshake_timeout": 300, "keepalive_time": 300, "keepalive_timeout": 300}
    return with_options(begin, monkeypatch, **times, **{"http2.ping_timeout": 300})


@pytest.fixture
def ageing(begin: Serve, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Serve with a short maximum age of connections."""
    return with_options(begin, monkeypatch, max_connection_age=500, max_connection_age_grace=500)


def test_silent_connections_do_not_block_others(client: Client, socket: Path) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.callback(RawClient(socket).close)
        assert client.ask("ListImages").code == "OK"


def test_calls_without_a_request_time_out_and_do_not_block_others(client: Client, raw: RawClient) -> None:
    raw.greet()
    for stream in range(1, 129, 2):
        raw.begin(stream, LIST)
    assert client.ask("ListImages").code == "OK"
    waiting, why = set(range(1, 129, 2)), b""
    for kind, stream, payload in raw.frames():
        if kind == HEADERS:
            waiting.discard(stream)
            why += payload
        if not waiting:
            break
    assert b"the request did not arrive within" in why


def test_a_client_that_reads_no_reply_is_disconnected_and_does_not_block_others(
    ageing: Client, raw: RawClient, store_path: Path
) -> None:
    with Store.open(store_path) as store:
        for number in range(20):
            names = tuple(f"example.test/{'x' * 200}{number}:v{tag}" for tag in range(20))
            store.add(Image(f"sha256:{number:064x}", names, "", 1, False, b"{}"))
    raw.greet((4, 0))  # a window of 0 bytes: no reply can be sent
    raw.begin(1, LIST)
    raw.request(1, b"")
    assert len(ageing.images()) == 20
    for kind, _, _ in raw.frames():
        assert kind != DATA


def test_a_connection_has_at_most_64_concurrent_calls(client: Client, raw: RawClient) -> None:
    raw.greet()
    settings = next(payload for kind, _, payload in raw.frames() if kind == SETTINGS and payload)
    pairs = dict(struct.unpack_from(">HI", settings, at) for at in range(0, len(settings), 6))
    assert pairs[3] == 64


def test_a_request_that_is_too_large_is_refused(client: Client) -> None:
    answer = client.status("x" * (1 << 20))
    assert answer.code == "RESOURCE_EXHAUSTED"
    assert client.ask("Version").code == "OK"


def test_a_reply_that_is_too_large_is_refused_but_can_be_streamed(
    begin: Serve, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (("grpc.max_send_message_length", 3000),)
    monkeypatch.setattr("imagekeep.cri.server.SERVER_OPTIONS", options)
    monkeypatch.setattr("imagekeep.cri.listing.STREAM_BATCH", 5)
    with Store.open(store_path) as store:
        for number in range(50):
            store.add(Image(f"sha256:{number:064x}", (f"example.test/a{number}:v1",), "", 1, False, b"{}"))
    client = begin()
    assert client.ask("ListImages").code == "RESOURCE_EXHAUSTED"
    assert sum(len(batch["images"]) for batch in client.ask("StreamImages").reply) == 50


def test_a_stream_reserves_all_its_messages(
    begin: Serve, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.listing.STREAM_BATCH", 5)
    monkeypatch.setattr("imagekeep.cri.handlers.SMALL_REPLY_BYTES", 100)
    monkeypatch.setattr("imagekeep.cri.handlers.Replies", lambda: Replies(3000))  # five messages, and not ten
    with Store.open(store_path) as store:
        for number in range(50):
            store.add(Image(f"sha256:{number:064x}", (f"example.test/a{number}:v1",), "", 1, False, b"{}"))
    assert begin().ask("StreamImages").code == "RESOURCE_EXHAUSTED"


def test_a_flood_of_calls_is_answered_and_does_not_block_others(client: Client, socket: Path) -> None:
    def flood() -> set[str]:
        with Client(socket) as flooding:
            return {flooding.ask("ImageStatus", named("nope:v1")).code for _ in range(100)}

    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood) for _ in range(8)]
        assert {client.ask("Version").code for _ in range(50)} == {"OK"}
        assert {code for each in floods for code in each.result()} == {"OK"}


def test_waiting_changes_are_limited(begin: Serve, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagekeep.cri.mutations.WAITING_MAX", 0)
    with Store.open(store_path) as store:
        store.add(Image("sha256:" + "1" * 64, ("example.test/a:v1",), "", 1, False, b"{}"))
    assert begin().ask("RemoveImage", named("example.test/a:v1")).code == "RESOURCE_EXHAUSTED"


def test_a_silent_connection_is_closed(impatient: Client, raw: RawClient) -> None:
    assert impatient.ask("Version").code == "OK"
    for _ in raw.frames():
        pass


def test_a_client_that_answers_no_ping_is_disconnected(impatient: Client, raw: RawClient) -> None:
    raw.greet()
    raw.begin(1, LIST)
    for _ in raw.frames(answer_pings=False):
        pass
    assert impatient.ask("Version").code == "OK"


def test_unread_replies_are_limited(tmp_path: Path) -> None:
    names = tuple(f"example.test/{'x' * 200}:v{tag}" for tag in range(1000))
    with Store.open(tmp_path / "images.db") as store:
        for number in range(10):
            store.add(
                Image(f"sha256:{number:064x}", tuple(f"{n}-{number}" for n in names), "", 1, False, b"{}")
            )
    with serving(tmp_path) as server, contextlib.ExitStack() as stack, server.client() as client:
        size = sum(map(len, names)) * 10
        client.images()
        before = resident(server.pid)
        for _ in range(10):
            unread = RawClient(server.socket)
            stack.callback(unread.close)
            unread.greet((4, 0))
            for stream in range(1, 129, 2):
                unread.begin(stream, LIST)
                unread.request(stream, b"")
        assert client.ask("Version").code == "OK"
        wait_until(lambda: client.ask("ListImages").code == "RESOURCE_EXHAUSTED")
        assert 640 * size > 4 * REPLIES_BYTES_MAX
        assert resident(server.pid) - before < 1.5 * REPLIES_BYTES_MAX
        assert client.status("nope:v1").code == "OK"
        stack.close()
        wait_until(lambda: client.ask("ListImages").code == "OK")


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) << 10


def test_large_replies_reserve_and_release_memory_and_small_ones_need_none() -> None:
    replies = Replies(SMALL_REPLY_BYTES + 1)
    release = replies.reserve(SMALL_REPLY_BYTES + 1)
    replies.reserve(SMALL_REPLY_BYTES)()
    with pytest.raises(RpcError, match="waiting for clients to read them"):
        replies.reserve(SMALL_REPLY_BYTES + 1)
    release()
    replies.reserve(SMALL_REPLY_BYTES + 1)


def test_connections_that_only_answer_pings_do_not_exhaust_descriptors(tmp_path: Path) -> None:
    with Store.open(tmp_path / "images.db"):
        pass
    with serving(tmp_path) as server, contextlib.ExitStack() as stack, server.client() as client:
        assert client.ask("Version").code == "OK"
        answered = 0
        for _ in range(CONNECTIONS_MAX + 50):
            idle = RawClient(server.socket)
            stack.callback(idle.close)
            with contextlib.suppress(ConnectionError):
                idle.greet()
                answered += bool(idle.connection.recv(1))
        assert answered < CONNECTIONS_MAX
        assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) < CONNECTIONS_MAX + 100
        assert client.ask("Version").code == "OK"


def test_calls_are_limited_over_all_connections(
    begin: Serve, raw_later: Callable[[], RawClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.server.CALLS_MAX", 1)
    client = begin()
    raw = raw_later()
    raw.greet()
    streams = itertools.count(1, 2)

    def refused_beside_a_list() -> bool:
        raw.begin(next(streams), LIST)  # refused itself while the call before it still ends
        return client.ask("Version").code == "RESOURCE_EXHAUSTED"

    wait_until(refused_beside_a_list)


@pytest.mark.parametrize("limit", [160, 300])
def test_fewer_descriptors_allow_fewer_connections(limit: int, tmp_path: Path) -> None:
    with Store.open(tmp_path / "images.db"):
        pass
    with (
        serving(tmp_path, descriptors=limit) as server,
        contextlib.ExitStack() as stack,
        server.client() as client,
    ):
        assert client.ask("Version").code == "OK"
        for _ in range(limit):
            idle = RawClient(server.socket)
            stack.callback(idle.close)
            with contextlib.suppress(ConnectionError):
                idle.greet()
                idle.connection.recv(1)
        assert client.ask("ListImages").code == "OK"
        assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) < limit


def test_a_limit_that_leaves_no_descriptors_for_clients_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db"):
        pass
    imagekeep = f"'{sys.executable}' -m imagekeep --store '{tmp_path}/s.db'"
    command = f"ulimit -n 100; exec {imagekeep} serve --listen 'unix://{tmp_path}/cri.sock'"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "too few file descriptors: limit is 100" in done.stderr


def test_the_soft_limit_of_descriptors_is_raised(tmp_path: Path) -> None:
    with Store.open(tmp_path / "images.db"):
        pass
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(tmp_path, descriptors=256, hard=hard) as server:
        soft, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, DESCRIPTORS)


def ask_reflection(client: Client, question: bytes) -> Any:
    """Send one reflection request unchanged."""
    answered = REFLECT[0].response.FromString
    call: Any = client.channel.stream_stream(REFLECT[0].path, response_deserializer=answered)
    (reply,) = call(iter([question]), timeout=20)
    return reply


def test_only_the_last_name_of_a_reflection_request_is_answered(client: Client) -> None:
    one = REFLECT[0].request
    names = b"".join(one(file_containing_symbol=f"a{n}").SerializeToString() for n in range(40_000))
    assert ask_reflection(client, names).ByteSize() < 200


def test_a_long_reflection_request_is_refused(client: Client) -> None:
    question = REFLECT[0].request(file_by_filename="x" * 5000).SerializeToString()
    with pytest.raises(grpc.RpcError) as refused:
        ask_reflection(client, question)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
