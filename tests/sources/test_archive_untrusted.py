"""Broken or hostile archives: typed errors, bounded memory, and no access outside the archive."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    ImagekeepError,
    InvalidArgumentError,
    InvalidDigestError,
    InvalidDocumentError,
    PermissionDeniedError,
    SourceUnavailableError,
)
from imagekeep.oci.content import DOCUMENT_LIMIT
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.archive import Archive, blobs
from tests.images import (
    OCI_MANIFEST,
    digest_of,
    tar_of,
)
from tests.permissions import without_privileges
from tests.sources.archives import config_of, linked, opened, references, saved, streamed

if TYPE_CHECKING:
    from pathlib import Path


MISSING = "sha256:" + "0" * 64


class TestLinks:
    """Links between members, which older docker and podman write for layers that images share."""

    @pytest.mark.parametrize(
        ("links", "layer"),
        [
            ([(tarfile.SYMTYPE, "a/layer.tar", "../real.tar")], "a/layer.tar"),
            ([(tarfile.LNKTYPE, "a/layer.tar", "real.tar")], "a/layer.tar"),
            ([(tarfile.LNKTYPE, "./b", "./real.tar")], "b"),
            ([(tarfile.SYMTYPE, "a/b", "c"), (tarfile.SYMTYPE, "a/c", "../real.tar")], "a/b"),
            ([(tarfile.LNKTYPE, "real.tar", "real.tar")], "real.tar"),
        ],
        ids=["symbolic", "hard", "dotted", "chain", "itself"],
    )
    def test_a_link_leads_to_a_member(
        self, links: list[tuple[bytes, str, str]], layer: str, form: str, tmp_path: Path
    ) -> None:
        archive = opened(linked(*links, layer=layer), form, tmp_path)
        assert archive.info(digest_of(b"layer")).size == 5

    @pytest.mark.parametrize(
        "links",
        [
            [(tarfile.SYMTYPE, "a", "a")],
            [(tarfile.SYMTYPE, "a", "b"), (tarfile.SYMTYPE, "b", "a")],
            [(tarfile.SYMTYPE, "a", "/etc/hostname")],
            [(tarfile.SYMTYPE, "a", "../../../../etc/hostname")],
            [(tarfile.LNKTYPE, "a", "/etc/hostname")],
            [(tarfile.CHRTYPE, "a", "")],
            [(tarfile.SYMTYPE, "a" if n == 0 else f"a{n}", f"a{n + 1}") for n in range(20)]
            + [(tarfile.SYMTYPE, "a20", "real.tar")],
        ],
        ids=["itself", "circle", "absolute", "outside", "hard", "device", "long"],
    )
    def test_a_link_out_of_the_archive_finds_no_member(
        self, links: list[tuple[bytes, str, str]], form: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidDocumentError, match="names a, which the archive lacks"):
            opened(linked(*links, layer="a"), form, tmp_path).records()


def test_names_that_leave_the_archive_are_names_like_others(form: str, tmp_path: Path) -> None:
    content = saved({"../../etc/layer": b"layer"}, "../../etc/layer")
    assert opened(content, form, tmp_path).info(digest_of(b"layer")).size == 5


def test_of_two_members_with_one_name_the_last_counts(form: str, tmp_path: Path) -> None:
    buffer = io.BytesIO(saved({}, tag="app:v1"))
    second = io.BytesIO(saved({}, tag="app:v2"))
    with tarfile.open(fileobj=second) as source, tarfile.open(fileobj=buffer, mode="a") as target:
        target.addfile(source.getmember("manifest.json"), source.extractfile("manifest.json"))
    assert references(opened(buffer.getvalue(), form, tmp_path))[0] == "docker.io/library/app:v2"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"readme": b"x"}, "neither oci-layout nor manifest.json"),
        ({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}, "has oci-layout, but no index.json"),
        (
            {"oci-layout": b'{"imageLayoutVersion":"9"}', "index.json": b"{}"},
            "imageLayoutVersion is not 1.0.0",
        ),
        (
            {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": b"{"},
            "member index.json: not valid",
        ),
        ({"manifest.json": b"["}, "member manifest.json: not valid JSON"),
        ({"manifest.json": b"{}"}, "an object where a list belongs"),
        ({"manifest.json": b'[{"Config": "nowhere"}]'}, "names nowhere, which the archive lacks"),
        ({"sub/oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}, "neither oci-layout nor manifest.json"),
    ],
)
def test_an_error_names_what_an_archive_lacks(
    members: dict[str, bytes], words: str, form: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidDocumentError, match=words):
        opened(tar_of(members), form, tmp_path).records()


DAMAGED = "the compressed stream is damaged or truncated"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is not a tar archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), DAMAGED),
        (b"\xfd7zXZ\0" + bytes(600), DAMAGED),
        (b"BZh91AY" + bytes(600), DAMAGED),
        (b"\x04\x22\x4d\x18" + bytes(600), "compressed with lz4"),
        (b"\x1f\x9d" + bytes(600), "compressed with compress"),
        (b"PK\x03\x04" + bytes(600), "compressed with zip"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(saved({}), mtime=0)[:150], DAMAGED),
        (b"\x1f\x8b\x08" + bytes(600), DAMAGED),
        (saved({})[:560], "is truncated"),
    ],
)
def test_other_files_are_not_archives(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidDocumentError, match=words):
        streamed(content)
    (tmp_path / "app.tar").write_bytes(content)
    with pytest.raises(InvalidDocumentError, match=words):
        Archive(tmp_path / "app.tar").records()


def test_a_missing_file_is_unavailable_and_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"app\.tar: No such file"):
        Archive(tmp_path / "app.tar").records()


def test_a_directory_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="for an OCI layout give oci:DIRECTORY"):
        Archive(tmp_path).records()


def test_a_pipe_by_its_path_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidArgumentError, match="archive:-"):
        Archive(tmp_path / "pipe").records()


def test_a_file_that_this_user_may_not_read_is_denied_and_named(public_directory: Path) -> None:
    file = public_directory / "app.tar"
    file.write_bytes(saved({}))
    file.chmod(0)
    with without_privileges(), pytest.raises(PermissionDeniedError, match=r"app\.tar: permission denied"):
        Archive(file).records()


def test_a_missing_blob_is_not_found(form: str, tmp_path: Path) -> None:
    archive = opened(saved({}), form, tmp_path)
    with pytest.raises(ContentNotFoundError, match=MISSING):
        archive.read(Descriptor(OCI_MANIFEST, MISSING, 1))
    with pytest.raises(ContentNotFoundError, match=MISSING):
        archive.info(MISSING)


@pytest.mark.parametrize("digest", ["", "sha256:abc", "sha256:../x"])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(InvalidDigestError):
        streamed(saved({})).info(digest)


def test_a_blob_larger_than_a_document_is_refused_but_has_a_size(form: str, tmp_path: Path) -> None:
    layer = b"{" + bytes(DOCUMENT_LIMIT)
    archive = opened(saved({"layer.tar": layer}, "layer.tar"), form, tmp_path)
    assert archive.info(digest_of(layer)).size == len(layer)
    with pytest.raises(CorruptContentError, match="exceeds the maximum size of a document"):
        archive.read(Descriptor(OCI_MANIFEST, digest_of(layer), 1))


def test_a_blob_of_a_stream_that_is_not_a_document_is_not_json() -> None:
    archive = streamed(saved({"layer.tar": b"layer"}, "layer.tar"))
    with pytest.raises(InvalidDocumentError, match="not valid JSON"):
        archive.read(Descriptor(OCI_MANIFEST, digest_of(b"layer"), 5))


def test_of_more_json_than_can_be_held_the_largest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs.DocumentBuffer.__init__, "__defaults__", (1500,))
    sbom = b"{" + b" " * 1000 + b"}"
    archive = streamed(saved({"sbom.json": sbom, "layer.tar": b"{}" + bytes(800)}, "sbom.json", "layer.tar"))
    target = archive.get("docker.io/library/app:v1").target
    assert b"layers" in archive.read(target)
    assert archive.info(digest_of(sbom)).size == len(sbom)
    with pytest.raises(InvalidDocumentError, match="decompress it to a file and give that"):
        archive.read(Descriptor(OCI_MANIFEST, digest_of(sbom), len(sbom)))


def test_a_gzip_bomb_takes_little_memory() -> None:
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", 1) as writer:
        header = tarfile.TarInfo("layer.tar")
        header.size = 1 << 28
        writer.write(header.tobuf())
        for _ in range(256):
            writer.write(bytes(1 << 20))
        writer.write(saved({"config.json": config_of(bytes(1 << 28))}, "layer.tar"))
    content = buffer.getvalue()
    assert len(content) < 2 << 20
    tracemalloc.start()
    archive = streamed(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(archive.records()) == 2
    assert most < 8 << 20


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_a_damaged_archive_is_read_or_raises_a_typed_error(
    changes: list[tuple[int, int]], compressed: bool
) -> None:
    whole = saved({"layer.tar": b"layer"}, "layer.tar")
    content = bytearray(gzip.compress(whole, mtime=0) if compressed else whole)
    for position, byte in changes:
        content[position % len(content)] = byte
    try:
        streamed(bytes(content)).records()
    except ImagekeepError:
        return
