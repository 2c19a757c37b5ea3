"""Small archives that would become large."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from imagekeep.sources.archive import Archive
from tests.images import tar_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class _Zeros(io.RawIOBase):
    """A gzip stream of one tar member of zeros: 1 MiB compressed for each GiB."""

    def __init__(self, size: int, name: bytes = b"layer.tar") -> None:
        header = tarfile.TarInfo(name.decode())
        header.size = size
        self._parts = self._compressed(header.tobuf(), size)
        self._left = b""

    @staticmethod
    def _compressed(head: bytes, size: int) -> Iterator[bytes]:
        yield gzip.compress(head, 1)
        member = gzip.compress(bytes(1 << 24), 9)
        for _ in range(size >> 24):
            yield member

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._left:
            part = next(self._parts, b"")
            if not part:
                return 0
            self._left = part
        chunk, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def gzip_of_zeros(directory: Path) -> Callable[[], object]:
    return lambda: Archive(io.BufferedReader(_Zeros(1 << 30))).records()


def gzip_of_documents(directory: Path) -> Callable[[], object]:
    """Many members that look like documents, larger together than the limit."""
    file = directory / "archive.tar.gz"
    document = b"{" + bytes(4 << 20).replace(b"\0", b" ") + b"}"
    with gzip.open(file, "wb", 1) as zipped, tarfile.open(fileobj=zipped, mode="w|") as archive:
        for number in range(40):
            header = tarfile.TarInfo(f"{number}.json")
            header.size = len(document)
            archive.addfile(header, io.BytesIO(document))
    return lambda: Archive(file).records()


def tar_of_huge_headers(directory: Path) -> Callable[[], object]:
    """A pax header that claims 8 GiB."""
    header = tarfile.TarInfo("x")
    header.size = 8 << 30
    header.type = tarfile.XHDTYPE
    return lambda: Archive(io.BytesIO(gzip.compress(header.tobuf() + bytes(1 << 20)))).records()


def tar_of_many_members(directory: Path) -> Callable[[], object]:
    member = tarfile.TarInfo("member").tobuf()
    return lambda: Archive(io.BytesIO(gzip.compress(member * 400_000, 1))).records()


def tar_of_links_in_a_ring(directory: Path) -> Callable[[], object]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(20_000):
            link = tarfile.TarInfo(f"l{number}")
            link.type, link.linkname = tarfile.SYMTYPE, f"l{(number + 1) % 20_000}"
            archive.addfile(link)
        manifest = json.dumps([{"Config": "l0", "Layers": [f"l{n}" for n in range(20_000)]}]).encode()
        header = tarfile.TarInfo("manifest.json")
        header.size = len(manifest)
        archive.addfile(header, io.BytesIO(manifest))
    return lambda: Archive(io.BytesIO(buffer.getvalue())).records()


def tar_of_long_names(directory: Path) -> Callable[[], object]:
    """Links with the longest names and targets, which compress to nothing."""
    link = tarfile.TarInfo("d/" * 2000 + "a")
    link.type, link.linkname = tarfile.SYMTYPE, "b" * 4000
    member = link.tobuf(tarfile.GNU_FORMAT)
    return lambda: Archive(io.BytesIO(gzip.compress(member * 30_000, 1))).records()


def docker_archive_of_one_layer(directory: Path) -> Callable[[], object]:
    """Images that name one layer many times."""
    images = [{"Config": "layer", "Layers": ["layer"] * 99_000}] * 8
    content = tar_of({"layer": b"{}", "manifest.json": json.dumps(images).encode()})
    return lambda: Archive(io.BytesIO(gzip.compress(content, 1))).records()
