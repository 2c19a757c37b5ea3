"""Detects the compression of a stream and decompresses it, verifying its checksums.

Consecutive members or frames are read as one stream, and zeros after the last are padding. Anything else after it
is an error, as in Go's gzip: it may be a member whose header was damaged.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from imagekeep.errors import InvalidDocumentError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

CHUNK: Final = 1 << 18
"""Bytes of a member held at once while it is read."""

MAGIC_LENGTH: Final = 10
"""Leading bytes by which a compression is detected (containerd: DecompressStream peeks as many)."""

MEMORY_LIMIT: Final = 128 << 20
"""Maximum bytes of memory for xz, enough for all its presets; the zstd library has the same limit."""

_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)
_XZ: Final = b"\xfd7zXZ\0"
_BZIP2: Final = b"BZh"
_UNREADABLE: Final = {b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress", b"PK\x03\x04": "zip"}

FAILURES: Final = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""Errors of a damaged or truncated stream; bzip2's is an OSError without an errno."""


def needs_memory(failure: Exception) -> bool:
    """Return whether reading failed because of MEMORY_LIMIT; xz and zstd say so in their messages alone."""
    return isinstance(failure, lzma.LZMAError | zstd.ZstdError) and "memory" in str(failure).lower()


class ByteStream(Protocol):
    """A stream of bytes, such as `sys.stdin.buffer` or an open file."""

    def read(self, count: int, /) -> bytes | None:
        """Return up to `count` bytes, none at the end."""
        ...


class _Decompressor(Protocol):
    """A decompressor of one member or frame of xz, bzip2 or zstd."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompressed(stream: io.BufferedReader[Any], beginning: bytes, name: str) -> ByteStream:
    """Return a stream without its compression; `beginning` is a copy of its first bytes.

    Raises InvalidDocumentError for a compression that is not supported. Reading the stream raises FAILURES.
    """
    kind = compression_of(beginning)
    if kind in _UNREADABLE.values():
        raise InvalidDocumentError(
            name,
            InvalidDocumentError.Reason.SYNTAX,
            f"the archive is compressed with {kind}; decompress it first, or use gzip or zstd",
        )
    if kind is None:
        return stream
    if kind == "gzip":
        return gzip.GzipFile(fileobj=stream, mode="rb")
    return _Frames(stream, _DECOMPRESSORS[kind])


def compression_of(beginning: bytes) -> str | None:
    """Return the name of the compression that begins with these bytes, or None."""
    if beginning.startswith(_GZIP):
        return "gzip"
    if beginning.startswith(_ZSTD) or _is_skippable(beginning):
        return "zstd"
    if beginning.startswith(_XZ):
        return "xz"
    if beginning.startswith(_BZIP2):
        return "bzip2"
    return next((kind for magic, kind in _UNREADABLE.items() if beginning.startswith(magic)), None)


def is_compressed(beginning: bytes) -> bool:
    """Return whether containerd treats a layer as compressed: with gzip or zstd (DetectCompression)."""
    return compression_of(beginning) in ("gzip", "zstd")


def _is_skippable(beginning: bytes) -> bool:
    """Return whether these bytes begin a skippable zstd frame, as pzstd writes first."""
    return len(beginning) >= 8 and int.from_bytes(beginning[:4], "little") in _ZSTD_SKIPPABLE


_DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "zstd": zstd.ZstdDecompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT),
    "bzip2": bz2.BZ2Decompressor,
}


class _Frames:
    """Consecutive members or frames of one format as one stream.

    The standard library's file classes ignore what follows the last one, so damage there would go unnoticed.
    """

    def __init__(self, stream: ByteStream, start: Callable[[], _Decompressor]) -> None:
        self._stream = stream
        self._start = start
        self._frame = start()
        self._unread = b""

    def read(self, count: int, /) -> bytes:
        """Return up to `count` bytes, none at the end; raises EOFError if the last frame is cut short."""
        while True:
            if self._frame.eof:
                if not self._next_frame():
                    return b""
            elif self._frame.needs_input and not self._unread:
                self._unread = self._stream.read(CHUNK) or b""
                if not self._unread:
                    raise EOFError("the compressed stream ends inside a frame")
            fed, self._unread = self._unread, b""
            if content := self._frame.decompress(fed, count):
                return content

    def _next_frame(self) -> bool:
        """Begin the next frame, past padding; return whether there is one."""
        rest = self._frame.unused_data.lstrip(b"\0")
        while not rest:
            chunk = self._stream.read(CHUNK)
            if not chunk:
                return False
            rest = chunk.lstrip(b"\0")
        self._frame, self._unread = self._start(), rest
        return True
