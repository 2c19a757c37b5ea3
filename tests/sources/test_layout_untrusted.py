"""Broken or hostile OCI layouts: typed errors, no access outside the directory, and no blocking."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    InvalidArgumentError,
    InvalidDigestError,
    InvalidDocumentError,
    PermissionDeniedError,
    SourceUnavailableError,
)
from imagekeep.oci.content import DOCUMENT_LIMIT
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.oci_layout import OCILayout
from tests.images import (
    OCI_MANIFEST,
    LayoutWriter,
    digest_of,
    named,
)
from tests.permissions import without_privileges
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher

TAG = "docker.io/library/shop:v1"
MISSING = "sha256:" + "0" * 64


def test_an_empty_layout_of_umoci_has_no_images(tmp_path: Path) -> None:
    run("umoci", "init", "--layout", tmp_path / "shop")
    assert OCILayout(tmp_path / "shop").records() == []


@pytest.mark.parametrize(
    "index",
    ["", "{", "[]", "{}", "null", '{"schemaVersion":1,"manifests":[]}', '{"schemaVersion":2,"manifests":{}}'],
)
def test_an_index_file_that_is_no_index_is_an_error_and_never_no_images(
    layout: LayoutWriter, source: OCILayout, index: str
) -> None:
    (layout.directory / "index.json").write_text(index)
    with pytest.raises(InvalidDocumentError, match=r"index\.json"):
        source.records()


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_a_directory_that_lacks_a_layout_s_file_is_an_error_that_names_it(
    layout: LayoutWriter, source: OCILayout, name: str
) -> None:
    (layout.directory / name).unlink()
    with pytest.raises(InvalidDocumentError, match=f"{name}: missing \\(not an OCI layout"):
        source.records()


@pytest.mark.parametrize("content", ["", "{}", '{"imageLayoutVersion":"2.0.0"}', '{"imageLayoutVersion":1}'])
def test_another_layout_version_is_refused(layout: LayoutWriter, source: OCILayout, content: str) -> None:
    (layout.directory / "oci-layout").write_text(content)
    with pytest.raises(InvalidDocumentError, match="oci-layout"):
        source.get(TAG)


def test_a_missing_directory_is_unavailable_and_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="shop"):
        OCILayout(tmp_path / "shop").records()


def test_a_file_in_the_place_of_the_directory_is_refused_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(InvalidArgumentError, match="shop is not a directory"):
        OCILayout(tmp_path / "shop").records()


def test_a_path_with_a_zero_byte_is_none() -> None:
    with pytest.raises(InvalidArgumentError, match="is not a path"):
        OCILayout("shop\0").records()


def test_a_directory_given_through_a_link_is_read(
    layout: LayoutWriter, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    (tmp_path / "latest").symlink_to(layout.directory)
    layout.write_index([named(layout.image(), "v1")])
    assert OCILayout(tmp_path / "latest").get("docker.io/library/latest:v1")


@pytest.mark.parametrize("part", ["index.json", "oci-layout", "blobs", "blobs/sha256"])
def test_a_link_in_the_layout_is_not_followed(
    layout: LayoutWriter, source: OCILayout, tmp_path: Path, part: str
) -> None:
    layout.write_index([named(layout.image(), "v1")])
    target = source.get(TAG).target
    path = layout.directory / part
    path.symlink_to(path.rename(tmp_path / "elsewhere"))
    with pytest.raises(CorruptContentError, match="links are not followed"):
        source.read(target) if part.startswith("blobs") else OCILayout(layout.directory).records()


def test_a_blob_that_is_a_link_is_not_followed(
    layout: LayoutWriter, source: OCILayout, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = digest_of(b"secret")
    layout.path(digest).symlink_to(secret)
    with pytest.raises(CorruptContentError, match="links are not followed"):
        source.read(Descriptor(OCI_MANIFEST, digest, 6))
    with pytest.raises(CorruptContentError, match="links are not followed"):
        source.info(digest)


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
def test_a_blob_that_is_no_file_is_refused_without_waiting(
    layout: LayoutWriter, source: OCILayout, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = layout.path(MISSING)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    with pytest.raises(CorruptContentError, match="not a regular file"):
        source.read(Descriptor(OCI_MANIFEST, MISSING, 1))


def test_a_fifo_in_the_place_of_the_index_file_is_refused_without_waiting(
    layout: LayoutWriter, source: OCILayout
) -> None:
    (layout.directory / "index.json").unlink()
    os.mkfifo(layout.directory / "index.json")
    with pytest.raises(CorruptContentError, match="not a regular file"):
        source.records()


def test_a_blob_larger_than_a_document_is_refused_but_has_a_size(
    layout: LayoutWriter, source: OCILayout
) -> None:
    with layout.path(MISSING).open("wb") as file:
        file.truncate(DOCUMENT_LIMIT + 1)
    with pytest.raises(CorruptContentError, match="exceeds the maximum size of a document"):
        source.read(Descriptor(OCI_MANIFEST, MISSING, 1))
    assert source.info(MISSING).size == DOCUMENT_LIMIT + 1


def test_an_index_file_larger_than_a_document_is_refused(layout: LayoutWriter, source: OCILayout) -> None:
    with (layout.directory / "index.json").open("ab") as file:
        file.truncate(DOCUMENT_LIMIT + 1)
    with pytest.raises(CorruptContentError, match=r"index\.json exceeds the maximum size"):
        source.records()


def test_a_missing_blob_is_not_found(source: OCILayout) -> None:
    with pytest.raises(ContentNotFoundError, match=MISSING):
        source.read(Descriptor(OCI_MANIFEST, MISSING, 1))
    with pytest.raises(ContentNotFoundError, match=MISSING):
        source.info(MISSING)


def test_an_algorithm_whose_directory_is_missing_is_not_found(source: OCILayout) -> None:
    with pytest.raises(ContentNotFoundError):
        source.info("sha512:" + "0" * 128)


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../x", "../../x:" + "0" * 64, "sha256:" + "A" * 64]
)
def test_a_digest_that_is_none_is_refused(source: OCILayout, digest: str) -> None:
    with pytest.raises(InvalidDigestError):
        source.info(digest)


@pytest.mark.parametrize("name", ["shop", "shop/index.json", "shop/oci-layout"])
def test_what_this_user_may_not_read_is_denied_and_named(public_directory: Path, name: str) -> None:
    layout = LayoutWriter(public_directory / "shop")
    (public_directory / name).chmod(0)
    with without_privileges(), pytest.raises(PermissionDeniedError, match=f"{name}: permission denied"):
        OCILayout(layout.directory).records()


def test_a_blob_that_this_user_may_not_read_is_denied_and_named(public_directory: Path) -> None:
    layout = LayoutWriter(public_directory / "shop")
    digest = layout.blob(b"{}")
    layout.path(digest).chmod(0)
    with (
        without_privileges(),
        pytest.raises(PermissionDeniedError, match=f"{digest[7:]}: permission denied"),
    ):
        OCILayout(layout.directory).read(Descriptor(OCI_MANIFEST, digest, 2))


def test_a_layout_that_changes_while_threads_read_it_is_always_one_or_the_other(
    layout: LayoutWriter, source: OCILayout
) -> None:
    images = [layout.image(environment=[f"A={number}"]) for number in range(2)]
    layout.write_index([named(images[0], "v1")])
    allowed = [{TAG, f"docker.io/library/shop@{image['digest']}"} for image in images]
    done = threading.Event()

    def read() -> list[set[str]]:
        seen = []
        while not done.is_set():
            seen.append({record.reference for record in source.records()})
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        for number in range(100):
            layout.write_index([named(images[number % 2], "v1")])
        done.set()
    assert all(seen in allowed for reader in readers for seen in reader.result())


def test_nothing_is_left_open(layout: LayoutWriter, source: OCILayout) -> None:
    layout.write_index([named(layout.image(), "v1")])
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    source.records()
    with pytest.raises(ContentNotFoundError):
        source.info(MISSING)
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208
