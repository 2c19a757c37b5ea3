"""Messages about dropped names, and about paths that are something else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import ContentNotFoundError, ImagekeepError, InvalidDocumentError
from imagekeep.oci.image import read_image
from imagekeep.sources import listing
from imagekeep.sources.archive import Archive
from imagekeep.sources.oci_layout import OCILayout
from tests.images import LayoutWriter, busybox_layout, named, tar_of_directory
from tests.sources.archives import saved
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher


def test_a_dropped_name_is_logged_once_for_each_index(
    layout: LayoutWriter, source: OCILayout, caplog: pytest.LogCaptureFixture
) -> None:
    image = layout.image()
    layout.write_index([named(image, "1.0+build")])
    source.records()
    source.get(f"docker.io/library/shop@{image['digest']}")
    source.records()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f'{layout.directory}/index.json: dropped the name "1.0+build": not a tag '
        f"(listed as docker.io/library/shop@{image['digest']}; see --base-name)"
    )


def test_a_dropped_tag_of_an_archive_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "app.tar").write_bytes(saved({}, tag="Not:A:Name"))
    Archive(tmp_path / "app.tar").records()
    assert 'dropped the name "Not:A:Name"' in caplog.text


def test_a_tag_without_a_base_name_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = LayoutWriter(tmp_path / "my shop")
    layout.write_index([named(layout.image(), "v1")])
    OCILayout(layout.directory).records()
    assert 'dropped the name "v1": no repository to put the tag in' in caplog.text
    assert "see --base-name" in caplog.text
    caplog.clear()
    assert OCILayout(layout.directory, base_name="shop").get("docker.io/library/shop:v1")
    assert caplog.text == ""


def test_of_many_dropped_names_the_rest_are_counted(
    layout: LayoutWriter, source: OCILayout, caplog: pytest.LogCaptureFixture
) -> None:
    layout.write_index([named(layout.image(), f"+{number}") for number in range(50)])
    source.records()
    assert len(caplog.records) == listing.DROPPED_SHOWN + 1
    assert caplog.messages[-1].endswith("index.json: 30 more names dropped")


def test_no_match_for_the_platform_says_what_is_wanted_and_present(
    layout: LayoutWriter, source: OCILayout, matcher: PlatformMatcher
) -> None:
    arm, s390x = (layout.image(architecture=each, platform=True) for each in ("arm64", "s390x"))
    layout.write_index([named(layout.index([arm, s390x]), "v1")])
    layout.path(s390x["digest"]).unlink()
    with pytest.raises(ContentNotFoundError) as raised:
        read_image(source.get("docker.io/library/shop:v1").target, source, matcher)
    assert str(raised.value).endswith(
        ": wanted linux/amd64; present linux/arm64; absent linux/s390x (choose with --platform)"
    )


def test_a_platform_whose_manifest_is_absent_says_what_is_present(
    layout: LayoutWriter, source: OCILayout, matcher: PlatformMatcher
) -> None:
    one, other = layout.image(platform=True), layout.image(architecture="arm64", platform=True)
    layout.write_index([named(layout.index([one, other]), "v1")])
    layout.path(one["digest"]).unlink()
    with pytest.raises(
        ContentNotFoundError, match=r"has no blob .*; wanted linux/amd64; present linux/arm64; ab"
    ):
        read_image(source.get("docker.io/library/shop:v1").target, source, matcher)


def said(source: OCILayout | Archive) -> str:
    with pytest.raises(ImagekeepError) as raised:
        source.records()
    return str(raised.value)


def test_skopeo_s_directory_is_named_as_what_it_is(tmp_path: Path) -> None:
    layout = busybox_layout(tmp_path / "busybox")
    run("skopeo", "copy", "-q", f"oci:{layout}:v1", f"dir:{tmp_path / 'dir'}")
    assert "skopeo's dir: format" in said(OCILayout(tmp_path / "dir"))
    packed = tar_of_directory(tmp_path / "dir", tmp_path / "dir.tar")
    assert "skopeo's dir: format" in said(Archive(packed))


def test_a_dangling_link_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert "is a link to a file that does not exist" in said(OCILayout(tmp_path / "link"))
    assert "a dangling link" in said(Archive(tmp_path / "link"))


@pytest.mark.parametrize("tag", [":v1", ":example.test/shop/app:v1", ":a@sha256:b"])
def test_a_tag_after_the_path_is_explained(layout: LayoutWriter, tmp_path: Path, tag: str) -> None:
    directory = layout.directory
    explained = "does not exist; a source takes no tag: give"
    assert said(OCILayout(f"{directory}{tag}")) == f"{directory}{tag} {explained} oci:{directory}"
    file = tar_of_directory(directory, tmp_path / "x.tar")
    assert said(Archive(f"{file}{tag}")) == f"{file}{tag} {explained} archive:{file}"


def test_a_directory_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "caf\udce9")
    image = layout.image()
    layout.write_index([named(image, "example.test/app:v1")])
    assert OCILayout(layout.directory).get("example.test/app:v1").target.digest == image["digest"]
    packed = tar_of_directory(layout.directory, tmp_path / "caf\udce9.tar")
    assert Archive(packed).get("example.test/app:v1")
    assert OCILayout(layout.directory, base_name="shop").records()


def test_a_directory_without_a_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocumentError, match="not an OCI layout"):
        OCILayout(tmp_path).records()


@pytest.mark.parametrize("saved_images", ["[]", '[{"Config":"blobs/sha256/x"}]'])
def test_an_empty_layout_beside_a_manifest_json_that_lists_images_is_an_error(
    layout: LayoutWriter, source: OCILayout, saved_images: str
) -> None:
    (layout.directory / "manifest.json").write_text(saved_images)
    if saved_images == "[]":
        assert source.records() == []
    else:
        assert "lists images, and index.json none; give the archive itself" in said(source)


def test_a_layout_beside_a_manifest_json_that_lists_more_is_an_error(
    layout: LayoutWriter, source: OCILayout
) -> None:
    image = layout.image()
    layout.write_index([{**image, "annotations": {"io.containerd.image.name": "docker.io/shop/a:v1"}}])
    saved = layout.directory / "manifest.json"
    saved.write_text('[{"Config": "a.json", "RepoTags": ["shop/a:v1", "NOT A TAG"]}]')
    assert len(source.records()) == 2
    saved.write_text('[{"Config": "a.json", "RepoTags": ["shop/a:v1", "shop/b:v1"]}]')
    with pytest.raises(InvalidDocumentError, match=r"lists shop/b:v1, and index\.json does not"):
        OCILayout(layout.directory).records()
    saved.write_text('{"name": "of another program"}')
    assert len(OCILayout(layout.directory).records()) == 2
