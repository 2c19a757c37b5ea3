"""The sizes of many blobs at once: of a layout, an archive, and a source without a listing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    FailedPreconditionError,
    PermissionDeniedError,
    SourceUnavailableError,
)
from imagekeep.oci import content
from imagekeep.sources import oci_layout
from imagekeep.sources.archive import Archive
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.sources.protocol import ContentLister, contents_of
from tests.images import LayoutWriter, busybox_layout, digest_of, docker_archive, named, tar_of_directory
from tests.permissions import without_privileges
from tests.sources.archives import opened, saved

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.image import ImageRecord
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor

ABSENT = digest_of(b"absent")
INVALID = (
    "",
    "sha256:",
    "sha256:abc",
    "md5:" + "0" * 32,
    "sha256:../../index.json",
    "latest",
    "sha256:" + "A" * 64,
)


class Plain:
    """A source of someone else's, which can only be asked for one blob at a time."""

    def __init__(self, layout: OCILayout) -> None:
        self._layout = layout

    def get(self, reference: str) -> ImageRecord:
        return self._layout.get(reference)

    def records(self) -> list[ImageRecord]:
        return self._layout.records()

    def read(self, descriptor: Descriptor) -> bytes:
        return self._layout.read(descriptor)

    def info(self, digest: str) -> ContentInfo:
        return self._layout.info(digest)

    def close(self) -> None:
        pass


def on_disk(layout: LayoutWriter) -> dict[str, int]:
    """Return the size of each blob in a layout's directory."""
    blobs = layout.directory / "blobs"
    return {f"{file.parent.name}:{file.name}": file.stat().st_size for file in blobs.glob("*/*")}


def test_a_layout_lists_the_sizes_of_all_its_blobs(layout: LayoutWriter, source: OCILayout) -> None:
    layout.write_index([named(layout.multi_platform(), "v1")])
    longer = "sha512:" + "0" * 128
    (layout.directory / "blobs" / "sha512").mkdir()
    layout.path(longer).write_bytes(b"longer")
    assert isinstance(source, ContentLister)
    assert source.contents() == on_disk(layout)
    assert source.contents()[longer] == 6


def test_a_layout_tells_which_of_some_blobs_it_has(layout: LayoutWriter, source: OCILayout) -> None:
    layer, other = layout.blob(b"layer"), layout.blob(b"other layer")
    assert source.contents([layer, ABSENT, *INVALID]) == {layer: 5}
    layout.path(other).unlink()
    assert source.contents([other]) == {}
    assert source.contents([]) == {}


def test_what_is_not_a_blob_in_a_layout_is_left_out(
    layout: LayoutWriter, source: OCILayout, tmp_path: Path
) -> None:
    layer = layout.blob(b"layer")
    directory, link, pipe, dangling = (
        digest_of(name.encode()) for name in ("directory", "link", "pipe", "dangling")
    )
    layout.path(directory).mkdir()
    layout.path(link).symlink_to(layout.path(layer))
    layout.path(dangling).symlink_to(tmp_path / "nothing")
    os.mkfifo(layout.path(pipe))
    (layout.directory / "blobs" / "sha256" / "README").write_text("not a blob")
    (layout.directory / "blobs" / "sha256" / os.fsdecode(b"\xff")).write_text("not a blob")
    assert source.contents() == {layer: 5}
    assert source.contents([layer, directory, link, pipe, dangling]) == {layer: 5}


def test_a_layout_without_blobs_has_none(layout: LayoutWriter, source: OCILayout) -> None:
    (layout.directory / "blobs" / "sha256").rmdir()
    assert source.contents() == {}
    (layout.directory / "blobs").rmdir()
    assert source.contents() == source.contents([ABSENT]) == {}


def test_a_missing_layout_is_an_error_and_never_no_blobs(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        OCILayout(tmp_path / "nothing").contents()
    with pytest.raises(SourceUnavailableError):
        OCILayout(tmp_path / "nothing").contents([ABSENT])


def test_blobs_behind_a_link_are_refused(layout: LayoutWriter, source: OCILayout, tmp_path: Path) -> None:
    (layout.directory / "blobs").rename(tmp_path / "elsewhere")
    (layout.directory / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptContentError, match="links are not followed"):
        source.contents()


def test_blobs_that_may_not_be_listed_are_an_error(public_directory: Path) -> None:
    layout = LayoutWriter(public_directory / "shop")
    (layout.directory / "blobs" / "sha256").chmod(0)
    with without_privileges(), pytest.raises(PermissionDeniedError):
        OCILayout(layout.directory).contents()


def test_a_layout_of_too_many_blobs_is_refused(
    layout: LayoutWriter, source: OCILayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [layout.blob(bytes([number])) for number in range(4)]
    for module in (content, oci_layout):
        monkeypatch.setattr(module, "BLOBS_LIMIT", 3)
    with pytest.raises(FailedPreconditionError, match="more than 3 blobs"):
        source.contents()
    layout.path(digests[0]).unlink()
    assert source.contents().keys() == set(digests[1:])


def test_an_archive_of_a_layout_lists_its_blobs(layout: LayoutWriter, form: str, tmp_path: Path) -> None:
    layout.write_index([named(layout.multi_platform(), "v1")])
    content = tar_of_directory(layout.directory, tmp_path / "layout.tar").read_bytes()
    archive = opened(content, form, tmp_path)
    assert isinstance(archive, ContentLister)
    assert archive.contents() == on_disk(layout)
    layer = digest_of(b"layer")
    assert archive.contents([layer, ABSENT, *INVALID]) == {layer: 5}


def test_an_archive_of_docker_lists_the_blobs_that_its_manifests_name(form: str, tmp_path: Path) -> None:
    archive = opened(saved({"a/layer.tar": b"layer", "unnamed": b"x"}, "a/layer.tar"), form, tmp_path)
    target = archive.records()[0].target
    sizes = archive.contents()
    assert sizes[target.digest] == target.size
    assert sizes[digest_of(b"layer")] == 5
    assert len(sizes) == 3
    assert archive.contents([target.digest, ABSENT]) == {target.digest: target.size}


def test_the_blobs_of_a_real_archive_are_those_that_can_be_read(tmp_path: Path) -> None:
    file = docker_archive(busybox_layout(tmp_path / "busybox"), "v1", tmp_path / "app.tar", "app:v1")
    archive = Archive(file)
    sizes = archive.contents()
    assert len(sizes) == 3
    assert sizes == {digest: archive.info(digest).size for digest in sizes}


def test_a_source_without_a_listing_is_asked_for_each_blob(layout: LayoutWriter, source: OCILayout) -> None:
    layer, directory = layout.blob(b"layer"), digest_of(b"directory")
    layout.path(directory).mkdir()
    plain = Plain(source)
    assert not isinstance(plain, ContentLister)
    wanted = [layer, directory, ABSENT, *INVALID]
    assert contents_of(plain, wanted) == contents_of(source, wanted) == {layer: 5}


def test_a_source_without_a_listing_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        contents_of(Plain(OCILayout(tmp_path / "nothing")), [ABSENT])
    with pytest.raises(ContentNotFoundError):
        Plain(OCILayout(LayoutWriter(tmp_path / "shop").directory)).info(ABSENT)
