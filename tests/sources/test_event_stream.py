"""The stream of events against servers that speak HTTP/2 well, badly, or not at all."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded, WindowUpdated

from imagekeep.errors import (
    FailedPreconditionError,
    NotFoundError,
    SourceFaultError,
    SourceUnavailableError,
    SourceUnsupportedError,
)
from imagekeep.sources.containerd.connection import RECEIVED_BYTES_MAX, Connection
from imagekeep.sources.containerd.event_stream import EventStream
from imagekeep.sources.containerd.protocol import SUBSCRIBE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.protobuf.containerd_events_pb2 import Envelope

    Script = Callable[["Peer"], None]

STREAM = 1


class Peer:
    """The server's side of one connection, after the request has arrived."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http2.initiate_connection()
        self.request: dict[str, str] = {}
        self.flush()
        while not self._has_request():
            pass

    def _has_request(self) -> bool:
        events = self.http2.receive_data(self.socket.recv(65536))
        for event in events:
            if isinstance(event, RequestReceived):
                self.request = {str(name): str(value) for name, value in event.headers}
        self.flush()
        return any(isinstance(event, StreamEnded) for event in events)

    def flush(self) -> None:
        self.socket.sendall(self.http2.data_to_send())

    def headers(self, end: bool = False, /, **fields: str) -> None:
        """Send headers; an underscore in a name is a hyphen, and `status` is the HTTP status."""
        named = [(name.replace("_", "-"), value) for name, value in fields.items() if name != "status"]
        self.http2.send_headers(STREAM, [(":status", fields.get("status", "200")), *named], end_stream=end)
        self.flush()

    def trailers(self, code: int, message: str = "") -> None:
        self.http2.send_headers(
            STREAM, [("grpc-status", str(code)), ("grpc-message", message)], end_stream=True
        )
        self.flush()

    def send(self, content: bytes) -> None:
        """Send data, as much at a time as the client's window allows."""
        while content:
            size = min(
                self.http2.local_flow_control_window(STREAM), self.http2.max_outbound_frame_size, len(content)
            )
            if size:
                self.http2.send_data(STREAM, content[:size])
                content = content[size:]
                self.flush()
            elif not any(
                isinstance(event, WindowUpdated) for event in self.http2.receive_data(self.socket.recv(65536))
            ):
                continue


def framed(topic: str, *, compressed: int = 0) -> bytes:
    """Return one message of the stream."""
    content: bytes = SUBSCRIBE.response(topic=topic).SerializeToString()
    return struct.pack(">BI", compressed, len(content)) + content


@contextlib.contextmanager
def following(directory: Path, script: Script) -> Iterator[EventStream[Envelope]]:
    """Subscribe at a server that runs a script and then closes the connection."""
    path = str(directory / "server.sock")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted, contextlib.suppress(ConnectionError):
                script(Peer(accepted))

        server = threading.Thread(target=serve)
        server.start()
        stack.callback(server.join)
        connection = stack.enter_context(contextlib.closing(Connection(path, "spaced")))
        stream = EventStream(connection, SUBSCRIBE, SUBSCRIBE.request(filters=["topic==x"]))
        stack.callback(stream.cancel)
        yield stream


def topics(stream: EventStream[Envelope]) -> list[str]:
    return [envelope.topic for envelope in stream]


def test_messages_are_read_until_the_status(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        assert peer.request[":path"] == SUBSCRIBE.path
        assert peer.request["containerd-namespace"] == "spaced"
        assert (peer.request["content-type"], peer.request["te"]) == ("application/grpc", "trailers")
        peer.headers(content_type="application/grpc")
        peer.send(framed("a") + framed("b"))
        for byte in framed("c"):
            peer.send(bytes([byte]))
        peer.trailers(0)

    with following(tmp_path, script) as stream:
        assert topics(stream) == ["a", "b", "c"]


def test_more_than_the_windows_of_http2_is_read(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.headers()
        for _ in range(40):
            peer.send(framed("x" * 20_000))
        peer.trailers(0)

    with following(tmp_path, script) as stream:
        assert len(topics(stream)) == 40


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (5, NotFoundError),
        (12, SourceUnsupportedError),
        (14, SourceUnavailableError),
        (2, SourceFaultError),
        (99, SourceFaultError),
    ],
)
def test_each_status_has_its_error(tmp_path: Path, code: int, kind: type[Exception]) -> None:
    def script(peer: Peer) -> None:
        peer.headers()
        peer.trailers(code, "caf%C3%A9 %1b[1m")

    with following(tmp_path, script) as stream, pytest.raises(kind, match=r"café \\x1b\[1m"):
        topics(stream)


def test_refusal_without_a_message_is_an_error(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.headers(True, grpc_status="12", grpc_message="unknown service")

    with (
        following(tmp_path, script) as stream,
        pytest.raises(SourceUnsupportedError, match="unknown service"),
    ):
        topics(stream)


def close(peer: Peer) -> None:
    peer.headers()


def reset(peer: Peer) -> None:
    peer.headers()
    peer.http2.reset_stream(STREAM, error_code=2)
    peer.flush()


def go_away(peer: Peer) -> None:
    peer.headers()
    peer.http2.close_connection()
    peer.flush()


def garbage(peer: Peer) -> None:
    peer.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)


@pytest.mark.parametrize("script", [close, reset, go_away, garbage])
def test_lost_stream_is_unavailable(tmp_path: Path, script: Script) -> None:
    with following(tmp_path, script) as stream, pytest.raises(SourceUnavailableError):
        topics(stream)


def not_found(peer: Peer) -> None:
    peer.headers(True, status="404")


def compressed(peer: Peer) -> None:
    peer.headers()
    peer.send(framed("a", compressed=1))
    peer.socket.recv(1)


def not_a_message(peer: Peer) -> None:
    peer.headers()
    peer.send(struct.pack(">BI", 0, 2) + b"\xff\xff")
    peer.socket.recv(1)


def large_headers(peer: Peer) -> None:
    peer.headers(**{f"x{number}": "y" * 1000 for number in range(200)})
    peer.socket.recv(1)


def not_text(peer: Peer) -> None:
    peer.http2.config.header_encoding = None
    peer.http2.send_headers(STREAM, [(b":status", b"200"), (b"x", b"\xff")])
    peer.flush()
    peer.socket.recv(1)


@pytest.mark.parametrize("script", [not_found, compressed, not_a_message, large_headers, not_text])
def test_server_that_breaks_the_protocol_is_at_fault(tmp_path: Path, script: Script) -> None:
    with following(tmp_path, script) as stream, pytest.raises(SourceFaultError):
        topics(stream)


def test_message_that_is_too_large_is_refused_before_it_arrives(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.headers()
        peer.send(struct.pack(">BI", 0, RECEIVED_BYTES_MAX + 1))
        peer.socket.recv(1)

    with following(tmp_path, script) as stream, pytest.raises(FailedPreconditionError, match="bytes"):
        topics(stream)


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_waiting_thread_is_ended_from_another(tmp_path: Path, end: str) -> None:
    def script(peer: Peer) -> None:
        peer.headers()
        peer.send(framed("a"))
        while peer.socket.recv(65536):
            pass

    with following(tmp_path, script) as stream:
        reader = threading.Thread(target=lambda: topics(stream))
        assert next(stream).topic == "a"
        reader.start()
        (stream.cancel if end == "cancel" else stream._connection.close)()  # noqa: SLF001
        reader.join()


def test_closed_connection_accepts_no_stream(tmp_path: Path) -> None:
    with (
        following(tmp_path, close) as stream,
        contextlib.closing(Connection(stream._connection.path, "spaced")) as connection,  # noqa: SLF001
    ):
        connection.close()
        with pytest.raises(FailedPreconditionError, match="was closed"):
            EventStream(connection, SUBSCRIBE, SUBSCRIBE.request())


def test_idle_server_is_pinged_without_end(tmp_path: Path) -> None:
    """grpc-go pings an idle client, and closes the connection if nothing comes back."""
    answered = threading.Event()

    def script(peer: Peer) -> None:
        peer.headers()
        for _ in range(3):
            peer.http2.ping(b"12345678")
            peer.flush()
            while not any(
                type(event).__name__ == "PingAckReceived"
                for event in peer.http2.receive_data(peer.socket.recv(65536))
            ):
                pass
        answered.set()
        peer.trailers(0)

    with following(tmp_path, script) as stream:
        assert topics(stream) == []
    assert answered.is_set()
