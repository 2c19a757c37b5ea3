"""What a store knows of the content of images in a real containerd, as `ctr` changes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.platform_content import ContentState
from imagekeep.sources.containerd import Containerd
from imagekeep.store import Store
from tests.database.rows import opened
from tests.images import (
    ATTESTATION_PLATFORM,
    IMAGE_NAME,
    LayoutWriter,
    busybox_layout,
    change_image,
    docker_archive,
    oci_archive,
    tar_of_directory,
)
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containerd import Daemon

APP = "example.test/app:v1"
COMPLETE, PARTIAL, ABSENT = ContentState.COMPLETE, ContentState.PARTIAL, ContentState.ABSENT


@pytest.fixture
def store(daemon: Daemon, namespace: str, store_path: Path) -> Iterator[Store]:
    with (
        Containerd(daemon.socket, namespace=namespace) as source,
        Store.open(store_path, source=source, platform="linux/amd64") as store,
    ):
        yield store


class Multi:
    """An index of three platforms and an attestation, each with a layer of its own."""

    def __init__(self, directory: Path) -> None:
        self.layout = LayoutWriter(directory)
        self.images = {name: self._image(name) for name in ("amd64", "arm64", "s390x")}
        attestation = self.layout.image(system="unknown", architecture="unknown", layers=(b"statement",))
        attestation["platform"] = ATTESTATION_PLATFORM
        attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        index = self.layout.index([*self.images.values(), attestation])
        self.layout.write_index([{**index, "annotations": {IMAGE_NAME: APP}}])
        self.archive = tar_of_directory(directory, directory.with_suffix(".tar"))

    def _image(self, architecture: str) -> dict[str, Any]:
        return self.layout.image(
            architecture=architecture, platform=True, layers=(architecture.encode() * 50, b"shared")
        )

    def blobs(self, architecture: str) -> tuple[str, str, str]:
        """Return the digests of a platform's manifest, config and own layer."""
        manifest = self.images[architecture]["digest"]
        document = json.loads(self.layout.path(manifest).read_bytes())
        return manifest, document["config"]["digest"], document["layers"][0]["digest"]


def states(store: Store) -> dict[str | None, tuple[ContentState | None, int]]:
    """Return the content state of each platform, and how many blobs are absent."""
    return {each.platform: (each.state, each.absent) for each in store.platforms(APP)}


def test_the_content_of_each_platform_is_followed_as_it_goes_and_comes(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    multi = Multi(tmp_path / "multi")
    daemon.import_archive(multi.archive, namespace)
    store.sync()
    assert states(store) == {
        "linux/amd64": (COMPLETE, 0),
        "linux/arm64": (COMPLETE, 0),
        "linux/s390x": (COMPLETE, 0),
    }
    daemon.ctr("content", "rm", *multi.blobs("arm64"), namespace=namespace)
    daemon.ctr("content", "rm", multi.blobs("s390x")[2], namespace=namespace)
    assert store.sync().changed == {}
    known = states(store)
    assert known["linux/amd64"] == (COMPLETE, 0)
    assert known["linux/arm64"][0] is ABSENT
    assert known["linux/s390x"] == (PARTIAL, 1)
    assert "complete (3/3)" in daemon.ctr("images", "check", namespace=namespace)
    daemon.ctr("content", "rm", multi.blobs("amd64")[2], namespace=namespace)
    store.sync()
    assert states(store)["linux/amd64"] == (PARTIAL, 1)
    assert "incomplete (2/3)" in daemon.ctr("images", "check", namespace=namespace)
    daemon.import_archive(multi.archive, namespace)
    store.sync()
    assert {state for state, _ in states(store).values()} == {COMPLETE}


def test_a_platform_that_is_fetched_later_is_read_by_the_next_sync(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    multi = Multi(tmp_path / "multi")
    daemon.import_archive(multi.archive, namespace)
    daemon.ctr("content", "rm", *multi.blobs("arm64"), *multi.blobs("s390x"), namespace=namespace)
    store.sync()
    assert [state for state, _ in states(store).values()] == [COMPLETE, ABSENT, ABSENT]
    daemon.import_archive(multi.archive, namespace)
    assert store.sync().changed == {}
    assert [state for state, _ in states(store).values()] == [COMPLETE] * 3
    sizes = [each.size for each in store.platforms(APP)]
    assert None not in sizes
    assert len(set(sizes)) == 1 or min(size or 0 for size in sizes) > 0


def test_a_store_of_every_platform_gets_the_images_of_one_that_is_fetched_later(
    daemon: Daemon, namespace: str, store_path: Path, tmp_path: Path
) -> None:
    multi = Multi(tmp_path / "multi")
    daemon.import_archive(multi.archive, namespace)
    daemon.ctr("content", "rm", *multi.blobs("arm64"), namespace=namespace)
    with (
        Containerd(daemon.socket, namespace=namespace) as source,
        Store.open(store_path, source=source, platforms=["linux/amd64", "*"]) as store,
    ):
        store.sync()
        assert "linux/arm64" not in store.kept_platforms()
        daemon.import_archive(multi.archive, namespace)
        store.sync()
        assert store.resolve(APP, "linux/arm64") == multi.blobs("arm64")[1]


def test_two_images_of_the_same_layers_share_their_snapshots(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    layout = busybox_layout(tmp_path / "busybox", "v1", "v2")
    change_image(layout, "v2", "COLOUR=red")
    for tag in ("v1", "v2"):
        archive = docker_archive(layout, tag, tmp_path / f"{tag}.tar", f"example.test/app:{tag}")
        daemon.ctr("images", "import", archive, namespace=namespace)
    store.sync()
    assert len(store.list()) == 2
    rows = daemon.ctr("snapshots", "usage", "-b", namespace=namespace).splitlines()[1:]
    with opened(store.path) as connection:
        known = connection.execute("SELECT chain_id, unpacked, unpacked_bytes FROM chains").fetchall()
    assert known == [(row.split()[0], 1, int(row.split()[1])) for row in rows]


def test_one_image_with_gzip_and_with_zstd_layers_has_two_manifests_and_one_chain(
    daemon: Daemon, namespace: str, store: Store, tmp_path: Path
) -> None:
    layout, zstd = busybox_layout(tmp_path / "busybox"), tmp_path / "zstd"
    run("skopeo", "copy", "-q", "--dest-compress-format", "zstd", f"oci:{layout}:v1", f"oci:{zstd}:v1")
    for name, source in (("gzip", layout), ("zstd", zstd)):
        archive = oci_archive(source, "v1", tmp_path / f"{name}.tar")
        daemon.ctr(
            *("images", "import", "--no-unpack", "--index-name", f"example.test/{name}:v1", archive),
            namespace=namespace,
        )
    store.sync()
    [image] = {image.id for image in store.list()}
    with opened(store.path) as connection:
        sizes = connection.execute("SELECT compressed_size FROM manifests").fetchall()
        chains = connection.execute("SELECT count(*) FROM chains").fetchone()
        layers = connection.execute("SELECT count(DISTINCT layer_key) FROM manifest_layers").fetchone()
    assert (len(set(sizes)), chains, layers) == (2, (1,), (2,))
    assert store.get(image).id == image
