"""The two ways through an archive: a file that can be skipped through, and a stream that only passes by."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from typing import TYPE_CHECKING, Protocol

from imagekeep.errors import InvalidDocumentError, SourceUnavailableError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 18
"""How many bytes are held at once while a member passes by."""

MAGIC_LENGTH = 10
"""How many leading bytes tell one compression from another (containerd: DecompressStream peeks as many)."""

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_UNREADABLE = {_ZSTD: "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}


class ByteStream(Protocol):
    """Gives bytes until there are none: what `sys.stdin.buffer` and opened files have in common."""

    def read(self, count: int, /) -> bytes | None:
        """Return up to `count` bytes, none at the end."""
        ...


class FileTape:
    """A plain tar in an open file: content that is not asked for is never read."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self.position = 0
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, and fewer only at the end; raises SourceUnavailableError."""
        content = read_range(self._descriptor, self.position, count, self.name)
        self.position += len(content)
        return content

    def skip(self, count: int) -> int:
        """Move on by `count` bytes, at most to the end; return how far it was."""
        skipped = max(0, min(count, self._size - self.position))
        self.position += skipped
        return skipped


class StreamTape:
    """A tar that passes by once: from a pipe, or out of gzip; only a chunk of it is held at a time."""

    def __init__(self, stream: ByteStream, name: str) -> None:
        self.name = name
        self.position = 0
        self._stream = stream

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, and fewer only at the end.

        Raises InvalidDocumentError where gzip is damaged or cut short, and SourceUnavailableError.
        """
        chunks = []
        while count and (chunk := self._next(min(count, CHUNK))):
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    def skip(self, count: int) -> int:
        """Read `count` bytes and forget them; return how many there were; raises as `read` does."""
        start = self.position
        while (left := count - (self.position - start)) > 0 and self._next(min(left, CHUNK)):
            pass
        return self.position - start

    def drain(self) -> None:
        """Read the rest and forget it; raises as `read` does."""
        while self._next(CHUNK):
            pass

    def _next(self, count: int) -> bytes:
        """Return some bytes, none at the end."""
        try:
            chunk = self._stream.read(count) or b""
        except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
            raise InvalidDocumentError(
                self.name,
                InvalidDocumentError.Reason.SYNTAX,
                "the gzip stream is damaged or cut short; copy it again",
            ) from failure
        except OSError as failure:
            raise SourceUnavailableError(
                f"cannot read {printable(self.name)}: {failure.strerror}"
            ) from failure
        self.position += len(chunk)
        return chunk


def read_range(descriptor: int, offset: int, count: int, name: str) -> bytes:
    """Return `count` bytes of an open file from `offset`, and fewer only at its end.

    The file's own position is not used, so that threads do not disturb one another. Raises
    SourceUnavailableError.
    """
    chunks = []
    try:
        while count and (chunk := os.pread(descriptor, min(count, CHUNK), offset)):
            chunks.append(chunk)
            offset += len(chunk)
            count -= len(chunk)
    except OSError as failure:
        raise SourceUnavailableError(f"cannot read {printable(name)}: {failure.strerror}") from failure
    return b"".join(chunks)


def stream_tape(stream: ByteStream, name: str) -> StreamTape:
    """Return a tape over a stream, decompressed where it is gzip; raises as `is_gzip` does."""
    beginning = StreamTape(stream, name).read(MAGIC_LENGTH)
    rejoined = io.BufferedReader(_Rejoined(beginning, stream.read), CHUNK)
    if is_gzip(beginning, name):
        return StreamTape(gzip.GzipFile(fileobj=rejoined, mode="rb"), name)
    return StreamTape(rejoined, name)


def is_gzip(beginning: bytes, name: str) -> bool:
    """Tell gzip from plain by an archive's first bytes.

    Raises InvalidDocumentError for a compression that imagekeep does not read, saying what to do.
    """
    for magic, compression in _UNREADABLE.items():
        if beginning.startswith(magic):
            raise InvalidDocumentError(
                name,
                InvalidDocumentError.Reason.SYNTAX,
                f"the archive is compressed with {compression}; decompress it first, or use gzip",
            )
    return beginning.startswith(_GZIP)


def is_compressed(beginning: bytes) -> bool:
    """Return whether containerd takes a layer for compressed (containerd: DetectCompression: gzip or zstd)."""
    if beginning.startswith((_GZIP, _ZSTD)):
        return True
    return len(beginning) >= 8 and int.from_bytes(beginning[:4], "little") in _ZSTD_SKIPPABLE


class _Rejoined(io.RawIOBase):
    """A stream with the bytes that were read off its beginning put back."""

    def __init__(self, beginning: bytes, read: Callable[[int], bytes | None]) -> None:
        self._beginning = beginning
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Give what was read off first, then what the stream has."""
        chunk = self._beginning[: len(buffer)] or self._read(len(buffer)) or b""
        self._beginning = self._beginning[len(chunk) :] if self._beginning else b""
        buffer[: len(chunk)] = chunk
        return len(chunk)
