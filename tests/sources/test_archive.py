"""Archives of docker and OCI, plain and gzip, from a file and from a stream."""

from __future__ import annotations

import gzip
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    ImageNotFoundError,
    SourceUnavailableError,
)
from imagekeep.oci.image import read_image
from imagekeep.sources.archive import Archive, blobs
from imagekeep.sources.protocol import Source
from tests.images import (
    DOCKER_MANIFEST,
    IMAGE_NAME,
    OCI_MANIFEST,
    LayoutWriter,
    busybox_layout,
    digest_of,
    docker_archive,
    gzipped,
    named,
    oci_archive,
    tar_of,
    tar_of_directory,
)
from tests.sources.archives import config_of, opened, references, saved, streamed
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher


class Trickle(io.RawIOBase):
    """A pipe that returns a few bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def read(self, count: int = -1) -> bytes:
        chunk, self.rest = self.rest[: min(count, 7)], self.rest[min(count, 7) :]
        return chunk


def test_it_is_a_source() -> None:
    assert isinstance(streamed(saved({})), Source)


def test_a_docker_archive_is_read_in_every_form(form: str, tmp_path: Path, matcher: PlatformMatcher) -> None:
    archive = opened(saved({"layer.tar": b"layer"}, "layer.tar"), form, tmp_path)
    record = archive.get("docker.io/library/app:v1")
    facts = read_image(record.target, archive, matcher)
    assert facts.config_json == config_of(b"layer")
    assert references(archive) == [
        "docker.io/library/app:v1",
        f"docker.io/library/app@{record.target.digest}",
    ]
    assert archive.info(digest_of(b"layer")).size == 5


def test_an_oci_archive_is_read_in_every_form(
    form: str, layout: LayoutWriter, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    image = layout.image()
    layout.write_index([named(layout.multi_platform(), "v2"), named(image, "example.test/app:v1")])
    content = tar_of_directory(layout.directory, tmp_path / "x").read_bytes()
    archive = opened(content, form, tmp_path, base_name="shop")
    assert archive.get("docker.io/library/shop:v2").target.media_type.endswith("index.v1+json")
    assert len(references(archive)) == 4
    assert read_image(archive.get("example.test/app:v1").target, archive, matcher).size == 5 + sum(
        archive.info(digest).size for digest in (image["digest"], layout.config_digest(image))
    )


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("copy", [docker_archive, oci_archive])
def test_archives_of_skopeo_are_read(copy: Any, compressed: bool, tmp_path: Path) -> None:
    file = copy(busybox_layout(tmp_path / "busybox"), "v1", tmp_path / "app.tar", "example.test/app:v1")
    archive = Archive(gzipped(file) if compressed else file)
    assert references(archive)[0] == "example.test/app:v1"
    assert len(references(archive)) == 2


def test_a_pipe_of_a_few_bytes_at_a_time_is_read(matcher: PlatformMatcher) -> None:
    archive = Archive(Trickle(gzip.compress(saved({}))))
    assert references(archive)[0] == "docker.io/library/app:v1"


def test_gzip_in_several_parts_is_read(matcher: PlatformMatcher) -> None:
    content = saved({})
    parts = gzip.compress(content[:700]) + gzip.compress(content[700:])
    assert references(streamed(parts))[0] == "docker.io/library/app:v1"


def test_content_after_the_end_of_the_tar_is_ignored(form: str, tmp_path: Path) -> None:
    archive = opened(saved({}) + b"garbage" * 100_000, form, tmp_path)
    assert references(archive)[0] == "docker.io/library/app:v1"


def test_a_pipe_is_read_to_its_end() -> None:
    stream = io.BytesIO(saved({}) + bytes(1 << 20))
    Archive(stream)
    assert stream.read() == b""


def test_the_base_name_is_the_file_s(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.write_index([named(layout.image(), "v1")])
    file = tar_of_directory(layout.directory, tmp_path / "Counter-1.2.tar")
    assert references(Archive(file))[0] == "docker.io/library/counter-1.2:v1"


def test_the_base_name_of_a_stream_is_stdin(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.write_index([named(layout.image(), "v1")])
    content = tar_of_directory(layout.directory, tmp_path / "x.tar").read_bytes()
    assert references(streamed(content))[0] == "docker.io/library/stdin:v1"


def test_an_archive_that_is_replaced_is_listed_again(tmp_path: Path) -> None:
    archive = opened(saved({}, tag="app:v1"), "plain", tmp_path)
    assert archive.get("docker.io/library/app:v1")
    (tmp_path / "new").write_bytes(saved({}, tag="app:v2"))
    (tmp_path / "new").replace(tmp_path / "app.tar")
    assert archive.get("docker.io/library/app:v2")
    with pytest.raises(ImageNotFoundError):
        archive.get("docker.io/library/app:v1")


def test_a_blob_of_an_archive_that_changed_is_not_read_from_its_old_place(tmp_path: Path) -> None:
    archive = opened(saved({"layer.tar": b"layer"}, "layer.tar"), "plain", tmp_path)
    blob = archive._current().images.find(digest_of(b"layer"))  # noqa: SLF001 - stands for a read that began before the change
    (tmp_path / "app.tar").write_bytes(saved({}) + bytes(512))
    with pytest.raises(SourceUnavailableError, match="changed while it was read"):
        blob.read()


def test_listing_a_plain_layout_archive_reads_no_layer(
    layout: LayoutWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.write_index([named(layout.image(layers=[b"x" * 3_000_000]), "v1")])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    counted = 0
    pread = os.pread

    def count(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal counted
        counted += length
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", count)
    assert len(references(Archive(file))) == 2
    assert counted < 20_000


def test_a_layer_that_images_share_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"Config": "config.json", "RepoTags": [f"app:v{n}"], "Layers": ["layer.tar"]} for n in range(5)]
    members = {
        "config.json": config_of(b"x"),
        "layer.tar": b"x",
        "manifest.json": json.dumps(images).encode(),
    }
    hashed: list[int] = []
    digest = blobs.FileBlob.digest

    def counted(blob: blobs.FileBlob) -> str:
        hashed.append(blob.offset)
        return digest(blob)

    monkeypatch.setattr(blobs.FileBlob, "digest", counted)
    opened(tar_of(members), "plain", tmp_path).records()
    assert len(hashed) == len(set(hashed)) == 2


def test_a_broken_image_keeps_its_names(layout: LayoutWriter, form: str, tmp_path: Path) -> None:
    image = layout.image()
    layout.write_index([named(image, "example.test/app:v1")])
    layout.path(image["digest"]).unlink()
    content = tar_of_directory(layout.directory, tmp_path / "x.tar").read_bytes()
    archive = opened(content, form, tmp_path)
    assert references(archive) == ["example.test/app:v1", f"example.test/app@{image['digest']}"]
    with pytest.raises(ContentNotFoundError):
        archive.read(archive.get("example.test/app:v1").target)


def test_an_image_with_an_invalid_repository_tag_is_listed_by_its_digest(tmp_path: Path) -> None:
    archive = opened(saved({}, tag="Not A Name"), "plain", tmp_path)
    digest = archive.records()[0].target.digest
    assert references(archive) == [f"docker.io/library/app@{digest}"]


def test_an_export_with_both_kinds_of_index_is_read_as_oci(layout: LayoutWriter, tmp_path: Path) -> None:
    image = layout.image()
    layout.write_index([{**image, "annotations": {IMAGE_NAME: "example.test/app:v1"}}])
    (layout.directory / "manifest.json").write_text("[]")
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    assert Archive(file).get("example.test/app:v1").target.media_type == OCI_MANIFEST


def test_the_target_of_a_docker_archive_is_a_docker_manifest(tmp_path: Path) -> None:
    target = opened(saved({}), "plain", tmp_path).records()[0].target
    assert target.media_type == DOCKER_MANIFEST


def test_threads_read_one_archive_at_once(layout: LayoutWriter, form: str, tmp_path: Path) -> None:
    images = [layout.image(environment=[f"A={number}"]) for number in range(20)]
    layout.write_index([named(image, f"example.test/app:v{n}") for n, image in enumerate(images)])
    content = tar_of_directory(layout.directory, tmp_path / "x.tar").read_bytes()
    archive = opened(content, form, tmp_path)

    def read(number: int) -> bytes:
        return archive.read(archive.get(f"example.test/app:v{number % 20}").target)

    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(read, range(400)))
    assert [digest_of(document) for document in documents] == [image["digest"] for image in images] * 20


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    archive = opened(saved({}), "plain", tmp_path)
    archive.records()
    opened(saved({}), "gzip", tmp_path).records()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_archives_of_gnu_tar_are_read(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.write_index([named(layout.image(), "example.test/app:v1")])
    os.link(layout.directory / "index.json", layout.directory / "a-copy")
    run("tar", "czf", tmp_path / "app.tar.gz", "-C", layout.directory, ".")
    assert len(references(Archive(tmp_path / "app.tar.gz"))) == 2
