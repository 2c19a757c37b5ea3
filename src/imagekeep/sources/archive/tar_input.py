"""Reads an archive from a file, skipping content, or from a stream."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from imagekeep.errors import InvalidDocumentError, SourceUnavailableError, from_os_error, printable
from imagekeep.sources.archive.compression import (
    CHUNK,
    FAILURES,
    MAGIC_LENGTH,
    MEMORY_LIMIT,
    decompressed,
    needs_memory,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.sources.archive.compression import ByteStream


class FileTarInput:
    """A plain tar in an open file; skipped content is not read."""

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
        """Skip `count` bytes, at most to the end; return how many were skipped."""
        skipped = max(0, min(count, self._size - self.position))
        self.position += skipped
        return skipped


class StreamTarInput:
    """A tar from a pipe or decompressed, read once, a chunk at a time."""

    def __init__(self, stream: ByteStream, name: str) -> None:
        self.name = name
        self.position = 0
        self._stream = stream

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, and fewer only at the end.

        Raises InvalidDocumentError if the compressed stream is damaged or truncated, and SourceUnavailableError.
        """
        chunks = []
        while count and (chunk := self._next(min(count, CHUNK))):
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    def skip(self, count: int) -> int:
        """Read and discard `count` bytes; return how many there were; raises as `read` does."""
        start = self.position
        while (left := count - (self.position - start)) > 0 and self._next(min(left, CHUNK)):
            pass
        return self.position - start

    def drain(self) -> None:
        """Read and discard the rest; raises as `read` does."""
        while self._next(CHUNK):
            pass

    def _next(self, count: int) -> bytes:
        """Return some bytes, none at the end."""
        try:
            chunk = self._stream.read(count) or b""
        except FAILURES as failure:
            raise self._damaged(failure) from failure
        except OSError as failure:
            if failure.errno is None:
                raise self._damaged(failure) from failure
            what = f"cannot read {printable(self.name)}"
            raise from_os_error(failure, what, SourceUnavailableError) from failure
        self.position += len(chunk)
        return chunk

    def _damaged(self, failure: Exception) -> InvalidDocumentError:
        problem = "the compressed stream is damaged or truncated; copy it again"
        if needs_memory(failure):
            problem = (
                f"decompressing it takes more than {MEMORY_LIMIT >> 20} MiB of memory; decompress it first"
            )
        return InvalidDocumentError(self.name, InvalidDocumentError.Reason.SYNTAX, problem)


def read_range(descriptor: int, offset: int, count: int, name: str) -> bytes:
    """Return `count` bytes of an open file from `offset`, and fewer only at its end.

    The file's own position is not used, because threads share it. Raises SourceUnavailableError.
    """
    chunks = []
    try:
        while count and (chunk := os.pread(descriptor, min(count, CHUNK), offset)):
            chunks.append(chunk)
            offset += len(chunk)
            count -= len(chunk)
    except OSError as failure:
        raise from_os_error(failure, f"cannot read {printable(name)}", SourceUnavailableError) from failure
    return b"".join(chunks)


def stream_input(stream: ByteStream, name: str) -> StreamTarInput:
    """Return a tar over a stream, decompressed; raises as `decompressed` does."""
    beginning = StreamTarInput(stream, name).read(MAGIC_LENGTH)
    rejoined = io.BufferedReader(_Rejoined(beginning, stream.read), CHUNK)
    return StreamTarInput(decompressed(rejoined, beginning, name), name)


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes, already read, are put back."""

    def __init__(self, beginning: bytes, read: Callable[[int], bytes | None]) -> None:
        self._beginning = beginning
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        chunk = self._beginning[: len(buffer)] or self._read(len(buffer)) or b""
        self._beginning = self._beginning[len(chunk) :] if self._beginning else b""
        buffer[: len(chunk)] = chunk
        return len(chunk)
