"""Entries whose documents cannot be read: what is listed of them, and when an id is denied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    ImageNotFoundError,
    InvalidDigestError,
)
from tests.images import (
    OCI_MANIFEST,
    LayoutWriter,
    named,
)
from tests.sources.conftest import listed

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.sources.oci_layout import OCILayout


TAG = "docker.io/library/shop:v1"
MISSING = "sha256:" + "0" * 64


class TestBrokenEntry:
    """An entry whose documents cannot be read: its names stay, and its id is neither given nor denied."""

    @pytest.fixture
    def image(self, layout: LayoutWriter) -> dict[str, str]:
        image = layout.image()
        layout.write_index([named(image, "v1"), named(layout.image(environment=["A=1"]), "v2")])
        return image

    @pytest.mark.parametrize("breakage", ["missing", "damaged", "link"])
    def test_its_names_are_listed_and_the_others_whole(
        self, layout: LayoutWriter, source: OCILayout, image: dict[str, str], breakage: str
    ) -> None:
        image_id = layout.config_digest(image)
        self.break_blob(layout.path(image["digest"]), breakage)
        targets = listed(source)
        assert targets[TAG] == targets[f"docker.io/library/shop@{image['digest']}"] == image["digest"]
        assert len(targets) == 5
        assert image_id not in targets

    @pytest.mark.parametrize(
        ("breakage", "error"),
        [
            ("missing", ContentNotFoundError),
            ("damaged", CorruptContentError),
            ("link", CorruptContentError),
        ],
    )
    def test_its_id_is_not_denied(
        self,
        layout: LayoutWriter,
        source: OCILayout,
        image: dict[str, str],
        breakage: str,
        error: type[Exception],
    ) -> None:
        image_id = layout.config_digest(image)
        self.break_blob(layout.path(image["digest"]), breakage)
        with pytest.raises(error):
            source.get(image_id)

    def test_its_id_is_found_once_the_blob_is_there(
        self, layout: LayoutWriter, source: OCILayout, image: dict[str, str]
    ) -> None:
        path = layout.path(image["digest"])
        content = path.read_bytes()
        path.unlink()
        assert len(listed(source)) == 5
        path.write_bytes(content)
        assert len(listed(source)) == 6

    def test_an_id_that_was_known_stays_known(
        self, layout: LayoutWriter, source: OCILayout, image: dict[str, str]
    ) -> None:
        image_id = layout.config_digest(image)
        source.references()
        layout.path(image["digest"]).unlink()
        assert source.get(image_id).target.digest == image["digest"]

    def test_other_names_that_are_not_there_are_still_denied(
        self, layout: LayoutWriter, source: OCILayout, image: dict[str, str]
    ) -> None:
        layout.path(image["digest"]).unlink()
        with pytest.raises(ImageNotFoundError):
            source.get("docker.io/library/shop:v3")

    @staticmethod
    def break_blob(path: Path, breakage: str) -> None:
        if breakage == "damaged":
            path.write_bytes(path.read_bytes()[:-1])
            return
        kept = path.rename(path.with_name("kept"))
        if breakage == "link":
            path.symlink_to(kept)


def test_an_index_without_the_platform_has_no_id_and_denies_ids(
    layout: LayoutWriter, source: OCILayout
) -> None:
    layout.write_index([named(layout.index([layout.image(architecture="arm64", platform=True)]), "v1")])
    assert len(listed(source)) == 2
    with pytest.raises(ImageNotFoundError):
        source.get(MISSING)


def test_a_document_that_is_none_denies_ids(layout: LayoutWriter, source: OCILayout) -> None:
    content = b"not json"
    entry = {"mediaType": OCI_MANIFEST, "digest": layout.blob(content), "size": len(content)}
    layout.write_index([named(entry, "v1")])
    assert len(listed(source)) == 2
    with pytest.raises(ImageNotFoundError):
        source.get(MISSING)


@pytest.mark.parametrize("digest", ["", "sha256:abc", "sha256:../../../../etc/passwd", "../index.json"])
def test_an_entry_whose_digest_is_none_keeps_its_tag_and_denies_ids(
    layout: LayoutWriter, source: OCILayout, digest: str
) -> None:
    layout.write_index([named({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}, "v1")])
    assert list(listed(source)) == [TAG]
    with pytest.raises(InvalidDigestError):
        source.read(source.get(TAG).target)
    with pytest.raises(ImageNotFoundError):
        source.get(MISSING)
