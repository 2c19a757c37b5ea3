"""A hand-written HTTP/2 client, which can stop where real clients do not."""

from __future__ import annotations

import contextlib
import socket as sockets
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIST = "/runtime.v1.ImageService/ListImages"

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """Return a header without indexing (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def headers(path: str) -> bytes:
    """Return the headers that begin a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    return b"".join(literal(*field) for field in fields)


class RawClient:
    """A connection on which each frame is sent by hand."""

    def __init__(self, path: Path) -> None:
        self.connection = sockets.socket(sockets.AF_UNIX)
        self.connection.settimeout(30)
        self.connection.connect(str(path))

    def greet(self, *settings: tuple[int, int]) -> None:
        payload = b"".join(struct.pack(">HI", *setting) for setting in settings)
        self.connection.sendall(PREFACE + frame(SETTINGS, payload))

    def begin(self, stream: int, path: str) -> None:
        """Begin a call without sending a request."""
        self.connection.sendall(frame(HEADERS, headers(path), END_HEADERS, stream))

    def request(self, stream: int, message: bytes) -> None:
        payload = b"\0" + struct.pack(">I", len(message)) + message
        self.connection.sendall(frame(DATA, payload, END_STREAM, stream))

    def frames(self, *, answer_pings: bool = True) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, stream and payload of each frame until the server hangs up; answer pings."""
        with contextlib.suppress(ConnectionError), self.connection.makefile("rb") as received:
            while head := received.read(9):
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                payload = received.read(size)
                if kind == PING and answer_pings and not flags & ACK:
                    self.connection.sendall(frame(PING, payload, ACK))
                yield kind, int.from_bytes(head[5:9]), payload

    def close(self) -> None:
        self.connection.close()
