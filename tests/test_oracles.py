"""Ids, chain ids and sizes agree with umoci, skopeo and containerd, on images that each of them made."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from imagekeep import Archive, OCILayout, Store
from imagekeep.sync import sync
from tests.containerd import CRI, Daemon, running
from tests.images import busybox_layout, docker_archive, oci_archive
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep import Image, Source

NAME = "example.test/shop/busybox:v1"
UNPACKED_BY = "containerd.io/gc.ref.snapshot.native"


class Made(NamedTuple):
    """One image as an OCI layout, as an archive, and in a store."""

    layout: Path
    archive: Path
    kept: Image
    target: str | None


def keep(source: Source, store_path: Path) -> tuple[Image, str | None]:
    """Return the only image of a source, read through a store, and its target's digest."""
    with Store.open(store_path, source=source) as store:
        report = sync(store)
        assert not report.failures
        (image,) = store.list()
        return image, next(iter(store.states().values())).target_digest


def by_umoci(directory: Path) -> Path:
    """Make an image of three layers, two of them equal."""
    layout = busybox_layout(directory / "umoci", "v1")
    (directory / "note").write_text("in a layer of its own" * 100)
    for path in ("/etc/note", "/etc/note", "/srv/note"):
        run("umoci", "insert", "--image", f"{layout}:v1", directory / "note", path)
    return layout


def by_skopeo(directory: Path) -> Path:
    """Make an image with skopeo from a docker archive, which skopeo compresses itself."""
    archive = docker_archive(by_umoci(directory), "v1", directory / "docker.tar", NAME)
    run("skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{directory / 'skopeo'}:v1")
    return directory / "skopeo"


def by_skopeo_with_zstd(directory: Path) -> Path:
    """Make an image with skopeo whose layers are compressed with zstd."""
    target = f"oci:{directory / 'zstd'}:v1"
    run("skopeo", "copy", "-q", "--dest-compress-format", "zstd", f"oci:{by_skopeo(directory)}:v1", target)
    return directory / "zstd"


@pytest.fixture(scope="module", params=[by_umoci, by_skopeo, by_skopeo_with_zstd])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An image made by each tool."""
    directory = tmp_path_factory.mktemp("made")
    layout = request.param(directory)
    archive = oci_archive(layout, "v1", directory / "archive.tar", NAME)
    return Made(layout, archive, *keep(OCILayout(layout), directory / "images.db"))


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A containerd that only stores and unpacks images."""
    with running(tmp_path_factory.mktemp("c") / "d", CRI) as daemon:
        yield daemon


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_id_is_the_digest_of_skopeos_config(made: Made) -> None:
    config = run("skopeo", "inspect", "--config", "--raw", f"oci:{made.layout}:v1")
    assert (made.kept.id, made.kept.config_json) == (sha256(config), config)


def test_the_target_is_skopeos_digest(made: Made) -> None:
    assert json.loads(run("skopeo", "inspect", f"oci:{made.layout}:v1"))["Digest"] == made.target


def test_the_size_is_manifest_and_config_and_the_layers_that_umoci_lists(made: Made) -> None:
    manifest = run("skopeo", "inspect", "--raw", f"oci:{made.layout}:v1")
    config = run("skopeo", "inspect", "--config", "--raw", f"oci:{made.layout}:v1")
    history = json.loads(run("umoci", "stat", "--json", "--image", f"{made.layout}:v1"))["history"]
    layers = [entry["layer"]["size"] for entry in history if entry["layer"]]
    assert made.kept.size == len(manifest) + len(config) + sum(layers)


def test_the_chain_id_follows_from_the_layers_that_umoci_lists(made: Made) -> None:
    history = json.loads(run("umoci", "stat", "--json", "--image", f"{made.layout}:v1"))["history"]
    chain = ""
    for diff_id in [entry["diff_id"] for entry in history if entry["diff_id"]]:
        chain = sha256(f"{chain} {diff_id}".encode()) if chain else diff_id
    assert made.kept.chain_id == chain


@pytest.mark.skipif(os.geteuid() != 0, reason="containerd unpacks images only for root")
def test_containerd_unpacks_the_image_under_its_chain_id(made: Made, containerd: Daemon) -> None:
    containerd.ctr("images", "import", "--snapshotter", "native", made.archive)
    assert made.kept.chain_id in containerd.ctr("snapshots", "--snapshotter", "native", "ls").split()
    listed = containerd.ctr("content", "ls").splitlines()
    unpacked = [line.split()[0] for line in listed if f"{UNPACKED_BY}={made.kept.chain_id}" in line]
    assert made.kept.id in unpacked


def test_the_size_is_the_number_of_bytes_containerd_keeps(made: Made, containerd: Daemon) -> None:
    containerd.import_archive(made.archive)
    listed = dict(line.split()[:3:2] for line in containerd.ctr("images", "ls").splitlines())
    assert listed[NAME] == made.target

    def blob(digest: str) -> bytes:
        return run("ctr", "-a", containerd.socket, "-n", "k8s.io", "content", "get", digest)

    manifest = json.loads(blob(listed[NAME]))
    beneath = [manifest["config"], *manifest["layers"]]
    kept = [blob(digest) for digest in (listed[NAME], *(each["digest"] for each in beneath))]
    assert made.kept.size == sum(map(len, kept))


def test_an_archive_exported_by_containerd_has_the_imported_image(
    made: Made, containerd: Daemon, tmp_path: Path
) -> None:
    containerd.import_archive(made.archive)
    containerd.ctr("images", "export", tmp_path / "exported.tar", NAME)
    kept, target = keep(Archive(tmp_path / "exported.tar"), tmp_path / "images.db")
    assert (kept.id, kept.chain_id, kept.size) == (made.kept.id, made.kept.chain_id, made.kept.size)
    assert target == made.target
