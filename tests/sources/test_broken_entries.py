"""Entries whose documents cannot be read: what is listed, and the error of their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    InvalidDigestError,
)
from imagekeep.oci.image import read_image
from tests.images import (
    OCI_MANIFEST,
    LayoutWriter,
    named,
)
from tests.sources.conftest import listed

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher
    from imagekeep.sources.oci_layout import OCILayout


TAG = "docker.io/library/shop:v1"


@pytest.fixture
def image(layout: LayoutWriter) -> dict[str, str]:
    image = layout.image()
    layout.write_index([named(image, "v1"), named(layout.image(environment=["A=1"]), "v2")])
    return image


def break_blob(path: Path, breakage: str) -> None:
    if breakage == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
        return
    kept = path.rename(path.with_name("kept"))
    if breakage == "link":
        path.symlink_to(kept)


@pytest.mark.parametrize(
    ("breakage", "error"),
    [("missing", ContentNotFoundError), ("damaged", CorruptContentError), ("link", CorruptContentError)],
)
def test_an_entry_whose_documents_cannot_be_read_is_listed_and_its_reader_gets_the_error(
    layout: LayoutWriter,
    source: OCILayout,
    matcher: PlatformMatcher,
    image: dict[str, str],
    breakage: str,
    error: type[Exception],
) -> None:
    break_blob(layout.path(image["digest"]), breakage)
    targets = listed(source)
    assert targets[TAG] == targets[f"docker.io/library/shop@{image['digest']}"] == image["digest"]
    assert len(targets) == 4
    with pytest.raises(error):
        read_image(source.get(TAG).target, source, matcher)


@pytest.mark.parametrize("digest", ["", "sha256:abc", "sha256:../../../../etc/passwd", "../index.json"])
def test_an_entry_with_an_invalid_digest_keeps_its_tag(
    layout: LayoutWriter, source: OCILayout, digest: str
) -> None:
    layout.write_index([named({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}, "v1")])
    assert list(listed(source)) == [TAG]
    with pytest.raises(InvalidDigestError):
        source.read(source.get(TAG).target)
