"""Compressed archives from a file and a pipe: intact, damaged, truncated, in parts, and with trailing data."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidDocumentError
from imagekeep.sources.archive import Archive
from tests.sources.archives import saved
from tests.tools import run

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
}
TAG = "docker.io/library/app:v1"
DAMAGED = "damaged or truncated"
CONTENT = saved({"layer.tar": bytes(range(256)) * 400}, "layer.tar")


@pytest.fixture(params=COMPRESSIONS)
def compress(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return COMPRESSIONS[request.param]


@pytest.fixture(params=["file", "pipe"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Archive]:
    def open_archive(content: bytes) -> Archive:
        if request.param == "pipe":
            return Archive(io.BytesIO(content))
        (tmp_path / "app.tar").write_bytes(content)
        return Archive(tmp_path / "app.tar")

    return open_archive


def refused(opened: Callable[[bytes], Archive], content: bytes, words: str = DAMAGED) -> None:
    with pytest.raises(InvalidDocumentError, match=words):
        opened(content).records()


def test_a_compressed_archive_is_read(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes]
) -> None:
    assert opened(compress(CONTENT)).get(TAG)


def test_members_one_after_another_are_one_stream(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes]
) -> None:
    parts = [CONTENT[:700], CONTENT[700:5000], b"", CONTENT[5000:]]
    assert opened(b"".join(map(compress, parts))).get(TAG)


def test_zeros_after_the_end_are_padding(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes]
) -> None:
    assert opened(compress(CONTENT) + bytes(100_000)).get(TAG)


@pytest.mark.parametrize("rest", [b"garbage", bytes(512) + b"garbage", b"\x1f\x8b\x08"])
def test_anything_else_after_the_end_is_refused(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes], rest: bytes
) -> None:
    refused(opened, compress(CONTENT) + rest)


@pytest.mark.parametrize("missing", [1, 4, 5, 8, 100])
def test_a_truncated_stream_is_refused(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes], missing: int
) -> None:
    refused(opened, compress(CONTENT)[:-missing])


def test_a_stream_whose_last_part_is_truncated_is_refused(
    opened: Callable[[bytes], Archive], compress: Callable[[bytes], bytes]
) -> None:
    refused(opened, compress(CONTENT) + compress(b"more" * 100)[:-3])


@pytest.mark.parametrize("position", [-1, -4, -5, -8])
def test_a_wrong_checksum_or_length_of_gzip_is_refused(
    opened: Callable[[bytes], Archive], position: int
) -> None:
    content = bytearray(gzip.compress(CONTENT))
    content[position] ^= 1
    refused(opened, bytes(content))


@pytest.mark.parametrize(("name", "position"), [("xz", -20), ("zstd", -2), ("bzip2", -3)])
def test_a_wrong_checksum_is_refused(opened: Callable[[bytes], Archive], name: str, position: int) -> None:
    content = bytearray(COMPRESSIONS[name](CONTENT))
    content[position] ^= 1
    refused(opened, bytes(content))


def test_a_checksum_after_the_end_of_the_tar_is_compared(opened: Callable[[bytes], Archive]) -> None:
    content = bytearray(gzip.compress(CONTENT + bytes(3 << 20)))
    content[-6] ^= 1
    refused(opened, bytes(content))


@pytest.mark.parametrize(
    ("program", "options"),
    [("xz", ("-9",)), ("zstd", ("-19", "-T2")), ("zstd", ("--no-check",)), ("bzip2", ()), ("gzip", ("-9",))],
)
def test_archives_of_the_usual_programs_are_read(
    opened: Callable[[bytes], Archive], tmp_path: Path, program: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    assert opened(run(program, *options, "-c", tmp_path / "x")).get(TAG)


def test_a_skippable_frame_of_zstd_is_skipped(opened: Callable[[bytes], Archive]) -> None:
    skippable = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"size"
    assert opened(skippable + COMPRESSIONS["zstd"](CONTENT)).get(TAG)


def test_a_window_that_takes_too_much_memory_is_refused_by_name(opened: Callable[[bytes], Archive]) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    of_two_gigabytes = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3])
    for content in (lzma.compress(CONTENT, filters=filters), of_two_gigabytes + bytes(20)):
        with pytest.raises(
            InvalidDocumentError, match="takes more than 128 MiB of memory; decompress it first"
        ):
            opened(content).records()
