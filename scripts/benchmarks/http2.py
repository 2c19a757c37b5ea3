"""A minimal gRPC client: unary calls on a Unix socket, with prepared frames.

gRPC's own Python client takes longer for a call than containerd takes to answer it, so it would measure itself.
This one implements just enough HTTP/2 (RFC 9113) and HPACK (RFC 7541) for one call at a time on a connection whose
windows never fill.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_HEADER = 9
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_POST, _HTTP = 0x83, 0x86
_RECEIVED = 1 << 18

# RFC 7541, 6.2.1: literals for the server to index; its table then begins with the last one, at 62.
_AUTHORITY_NAME, _PATH_NAME, _CONTENT_TYPE_NAME, _NEW_NAME = 0x41, 0x44, 0x5F, 0x40
_INDEXED = bytes([_POST, _HTTP, *(0x80 | place for place in (65, 64, 63, 62))])


class Connection:
    """One connection for calls to one method: `send` a request, then `receive` until there is a reply."""

    def __init__(self, path: Path, method: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self._headers = _literals(method)
        self._stream = -1
        self._received = bytearray()
        self._reply = b""
        settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _WINDOW)
        window = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
        self.socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window)
        )

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def fileno(self) -> int:
        """Return the socket's file descriptor, to poll."""
        return self.socket.fileno()

    def send(self, request: bytes) -> None:
        """Start a call with an encoded message."""
        self._stream += 2
        self._reply = b""
        self.socket.sendall(
            _frame(_HEADERS, _END_HEADERS, self._stream, self._headers)
            + _frame(_DATA, _END_STREAM, self._stream, struct.pack(">BI", 0, len(request)) + request)
        )
        self._headers = _INDEXED

    def receive(self) -> bytes | None:
        """Receive some bytes; return the encoded reply once the call has ended, else None.

        Raises ValueError if the call is refused or the server breaks the protocol.
        """
        received = self._received
        taken = self.socket.recv(_RECEIVED)
        if not taken:
            raise ValueError("the server closed the connection")
        received += taken
        ended = False
        while len(received) >= _HEADER:
            end = _HEADER + int.from_bytes(received[:3], "big")
            if len(received) < end:
                break
            ended |= self._take(received[3], received[4], bytes(received[_HEADER:end]))
            del received[:end]
        if not ended:
            return None
        if not self._reply:
            raise ValueError("the call was refused")
        return self._reply[5:]

    def ask(self, request: bytes) -> bytes:
        """Make one call, and return its reply."""
        self.send(request)
        while (reply := self.receive()) is None:
            pass
        return reply

    def _take(self, kind: int, flags: int, payload: bytes) -> bool:
        """Process one frame; return whether it ends the call."""
        if kind == _DATA:
            self._reply += payload
        elif kind == _GOAWAY or (kind == _RST_STREAM and any(payload)):
            raise ValueError(f"the server ended the call or the connection: {payload!r}")
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        return kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _literals(method: str) -> bytes:
    """Return the headers of the first call (gRPC over HTTP/2, Requests)."""
    return b"".join(
        [
            bytes([_POST, _HTTP]),
            bytes([_PATH_NAME]) + _text(method),
            bytes([_AUTHORITY_NAME]) + _text("localhost"),
            bytes([_CONTENT_TYPE_NAME]) + _text("application/grpc"),
            bytes([_NEW_NAME]) + _text("te") + _text("trailers"),
        ]
    )


def _text(value: str) -> bytes:
    """Return an encoded string of fewer than 127 characters (RFC 7541, 5.2)."""
    return bytes([len(value)]) + value.encode()
