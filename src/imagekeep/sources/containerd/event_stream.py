"""A server stream of containerd's, over HTTP/2 by h2 (gRPC over HTTP2: PROTOCOL-HTTP2.md).

gRPC's own client wakes up twenty times a second while a stream is silent, in threads that are there only for it.
This one waits in `recv`. It is for one long stream; calls go through gRPC, which is faster.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Self
from urllib.parse import unquote

import grpc

from imagekeep.errors import FailedPreconditionError, MissingExtraError
from imagekeep.protobuf import Reply
from imagekeep.sources.containerd.connection import RECEIVED_BYTES_MAX, connect

try:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import (
        ConnectionTerminated,
        DataReceived,
        Event,
        ResponseReceived,
        StreamEnded,
        StreamReset,
        TrailersReceived,
    )
    from h2.exceptions import ProtocolError
except ImportError as missing:
    raise MissingExtraError("h2", "containerd") from missing

if TYPE_CHECKING:
    from imagekeep.protobuf import Method, Request
    from imagekeep.sources.containerd.connection import Connection

_STREAM: Final = 1
"""The first stream of an HTTP/2 client, and the only one here."""

_PREFIX: Final = 5
"""Bytes before a message: whether it is compressed, and its length in four bytes."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class Failure(NamedTuple):
    """How a stream ended, in gRPC's terms, as `Connection.error_of` expects it."""

    status: grpc.StatusCode
    message: str

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        return self.status

    def details(self) -> str:
        """Return the server's message."""
        return self.message


class EventStream(Generic[Reply]):
    """Iterates over the answers of one call; ended by `cancel`, from any thread, or by closing the connection.

    Raises the errors of `connect` when it is made, and those of `Connection.call` while it is read. One thread may
    read it.
    """

    def __init__(self, connection: Connection, method: Method[Request, Reply], request: Request) -> None:
        self._connection = connection
        self._method = method
        self._call = _Call(method.path, dict(connection.metadata), request.SerializeToString())
        self._socket = connect(connection.path)
        self._socket.settimeout(None)
        self._reading = threading.Lock()
        self._cancelled = False
        try:
            connection.add_stream(self)
        except FailedPreconditionError:
            self._socket.close()
            raise

    def cancel(self) -> None:
        """End the stream, also for a thread that waits for the next answer."""
        self._cancelled = True
        with contextlib.suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        # The thread that reads closes the socket itself: its number may soon be another file's.
        if self._reading.acquire(blocking=False):
            self._socket.close()
            self._reading.release()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Reply:
        with self._reading:
            if self._cancelled:
                raise StopIteration
            try:
                message = self._receive()
            except BaseException:
                self._socket.close()
                raise
        if message is not None:
            return self._connection.decode(self._method, message)
        self._socket.close()
        if self._is_expected():
            raise StopIteration
        raise self._connection.error_of(self._call.failure, None, None)

    def _is_expected(self) -> bool:
        """Return whether the stream ended because it was closed here, or with the status OK."""
        failure = self._call.failure
        return self._cancelled or self._connection.closed or failure.status is grpc.StatusCode.OK

    def _receive(self) -> bytes | None:
        """Return the next message, or None if the stream has ended."""
        while (message := self._call.next_message()) is None:
            # The request at first, then acknowledgements. If they cannot be sent, the server's last words are read.
            with contextlib.suppress(OSError):
                self._socket.sendall(self._call.to_send())
            if self._call.ended:
                return None
            try:
                self._call.receive(self._socket.recv(65536))
            except OSError as error:
                self._call.fail(grpc.StatusCode.UNAVAILABLE, error.strerror or str(error))
        return message


class _Call:
    """The protocol of one call, without I/O."""

    def __init__(self, path: str, metadata: dict[str, str], request: bytes) -> None:
        self._http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._received = bytearray()
        self.ended = False
        self.failure = Failure(grpc.StatusCode.UNAVAILABLE, "the connection was closed")
        self._http2.initiate_connection()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            **metadata,
        }
        self._http2.send_headers(_STREAM, list(headers.items()))
        prefix = bytes(1) + len(request).to_bytes(_PREFIX - 1, "big")
        self._http2.send_data(_STREAM, prefix + request, end_stream=True)

    def to_send(self) -> bytes:
        """Return what is to be sent now."""
        return bytes(self._http2.data_to_send())

    def fail(self, code: grpc.StatusCode, message: str) -> None:
        """End the call."""
        if not self.ended:
            self.ended, self.failure = True, Failure(code, message)

    def receive(self, content: bytes) -> None:
        """Take what the server sent; nothing means that it has closed the connection."""
        if not content:
            self.fail(*self.failure)
            return
        try:
            for event in self._http2.receive_data(content):
                self._take(event)
        except (ProtocolError, UnicodeDecodeError) as error:
            self.fail(grpc.StatusCode.INTERNAL, f"HTTP/2: {error}")

    def next_message(self) -> bytes | None:
        """Return the next complete message, or None."""
        if len(self._received) < _PREFIX:
            return None
        size = int.from_bytes(self._received[1:_PREFIX], "big")
        if self._received[0]:
            self.fail(grpc.StatusCode.INTERNAL, "a compressed message, which was not asked for")
        elif size > RECEIVED_BYTES_MAX:
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message of {size} bytes")
        elif len(self._received) >= _PREFIX + size:
            message = bytes(self._received[_PREFIX : _PREFIX + size])
            del self._received[: _PREFIX + size]
            return message
        return None

    def _take(self, event: Event) -> None:
        match event:
            case DataReceived(data=content, flow_controlled_length=size):
                self._received += content
                self._http2.acknowledge_received_data(size, _STREAM)
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self._note({str(name): str(value) for name, value in headers})
            case StreamEnded():
                self.fail(*self.failure)
            case StreamReset() | ConnectionTerminated():
                self.fail(grpc.StatusCode.UNAVAILABLE, f"HTTP/2 error {event.error_code}")

    def _note(self, headers: dict[str, str]) -> None:
        """Take the status from the headers of a response, or from its trailers."""
        status = headers.get(":status", str(HTTPStatus.OK.value))
        if status != str(HTTPStatus.OK.value):
            self.fail(grpc.StatusCode.UNKNOWN, f"HTTP status {status}")
        if (code := headers.get("grpc-status")) is not None:
            number = int(code) if code.isascii() and code.isdigit() else -1
            message = unquote(headers.get("grpc-message", ""))
            self.failure = Failure(_CODES.get(number, grpc.StatusCode.UNKNOWN), message)
