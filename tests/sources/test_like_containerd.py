"""Archives are read as the real containerd imports them: the same names, targets, manifests and ids."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import DOCKER_MANIFEST
from imagekeep.oci.image import read_image
from imagekeep.sources.archive import Archive
from tests.images import (
    IMAGE_NAME,
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
from tests.sources.archives import CONFIG, config_of
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher
    from tests.sources.conftest import Containerd

NAMESPACES = (f"archive-{number}" for number in itertools.count())


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    return busybox_layout(tmp_path / "busybox", "v1")


def imported(containerd: Containerd, file: Path, *options: str) -> dict[str, str]:
    """Import an archive into a namespace of its own; return each image's target."""
    namespace = next(NAMESPACES)
    containerd.ctr("images", "import", "--no-unpack", "--all-platforms", *options, file, namespace=namespace)
    return containerd.targets(namespace)


def tags(archive: Archive) -> dict[str, str]:
    """Return the targets of the references that are tags, which are those that a plain import makes."""
    return {
        record.reference: record.target.digest
        for record in archive.records()
        if "@" not in record.reference and not record.reference.startswith("sha256:")
    }


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def saved(images: Sequence[tuple[list[str] | None, list[str]]], members: dict[str, bytes]) -> bytes:
    """Return an archive of docker's own form: images by tags and layer files."""
    configs = {
        f"{number}.json": config_of(*(members[layer] for layer in layers))
        for number, (_, layers) in enumerate(images)
    }
    manifest: list[dict[str, Any]] = [
        {"Config": config, "RepoTags": repo_tags, "Layers": layers}
        for config, (repo_tags, layers) in zip(configs, images, strict=True)
    ]
    return tar_of({**configs, **members, "manifest.json": json.dumps(manifest).encode()})


def test_a_docker_archive_has_the_target_that_containerd_makes(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = docker_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1")
    targets = imported(containerd, file)
    assert len(targets) == 1
    assert tags(Archive(file)) == targets


def test_a_docker_archive_has_the_manifest_that_containerd_makes_byte_for_byte(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = docker_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1")
    (target,) = imported(containerd, file).values()
    namespace = containerd.namespaces()[-1]
    content = run("ctr", "-a", containerd.socket, "-n", namespace, "content", "get", target)
    assert Archive(file).read(Descriptor(DOCKER_MANIFEST, target, 0)) == content


@pytest.mark.parametrize(
    "layer",
    [
        b"",
        b"plain",
        bytes(1024),
        gzip.compress(b"layer", mtime=0),
        b"\x28\xb5\x2f\xfd" + bytes(600),
        b"\x5f\x2a\x4d\x18" + bytes(600),
        b"\x5f\x2a\x4d\x18",
    ],
    ids=["empty", "short", "tar", "gzip", "zstd", "skippable", "shorter"],
)
def test_a_layers_first_bytes_decide_its_media_type_as_in_containerd(
    layer: bytes, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    content = saved([(["example.test/app:v1"], ["layer.tar"])], {"layer.tar": layer})
    file = written(tmp_path / "app.tar", content)
    assert tags(Archive(file)) == imported(containerd, file)


def test_several_saved_images_with_short_names_shared_layers_and_no_layers(
    containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    content = saved(
        [(["busybox", "shop/app:v2"], ["a/layer.tar", "b/layer.tar"]), (["localhost/x:y"], [])],
        {"a/layer.tar": b"one", "b/layer.tar": b"two"},
    )
    file = written(tmp_path / "app.tar", content)
    targets = imported(containerd, file)
    assert len(targets) == 3
    assert tags(Archive(file)) == targets


def test_a_saved_image_without_tags_has_no_name_in_either(
    containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = written(tmp_path / "app.tar", saved([(None, ["layer.tar"])], {"layer.tar": b"layer"}))
    assert tags(Archive(file)) == imported(containerd, file) == {}


def test_an_unnamed_image_has_the_digest_reference_of_an_import_with_digests(
    containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = written(tmp_path / "app.tar", saved([(None, ["layer.tar"])], {"layer.tar": b"layer"}))
    targets = imported(containerd, file, "--digests", "--base-name", "docker.io/library/app")
    by_name = {
        record.reference: record.target.digest
        for record in Archive(file).records()
        if "@" in record.reference
    }
    assert by_name == targets


def test_a_whole_ref_name_is_the_image_s_name(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = oci_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1")
    assert tags(Archive(file)) == imported(containerd, file)


def test_a_tag_alone_is_a_tag_of_the_base_name(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = oci_archive(busybox, "v1", tmp_path / "app.tar")
    targets = imported(containerd, file, "--base-name", "example.test/shop")
    assert tags(Archive(file, base_name="example.test/shop")) == targets


def test_an_export_that_is_both_kinds_is_read_as_oci(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    targets = imported(containerd, oci_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1"))
    export = tmp_path / "export.tar"
    # The ctr of 2.x lets the daemon export, and may end before the last of it is written. Older ones lack --local.
    local = ["--local"] if "--local" in containerd.ctr("images", "export", "--help") else []
    containerd.ctr(
        "images", "export", *local, export, "example.test/app:v1", namespace=containerd.namespaces()[-1]
    )
    assert b"manifest.json" in run("tar", "tf", export)
    assert tags(Archive(export)) == targets


def test_the_last_entry_with_a_name_has_it(
    layout: LayoutWriter, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    first, second = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.write_index([named(first, "example.test/app:v1"), named(second, "example.test/app:v1")])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    targets = imported(containerd, file)
    assert targets == {"example.test/app:v1": second["digest"]}
    assert tags(Archive(file)) == targets


def test_containerds_own_annotation_comes_before_the_ref_name(
    layout: LayoutWriter, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    layout.write_index([named(layout.image(), "example.test/b:v1", **{IMAGE_NAME: "example.test/a:v1"})])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    assert tags(Archive(file)) == imported(containerd, file)


def test_an_index_of_several_platforms_is_the_target(
    layout: LayoutWriter, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    layout.write_index([named(layout.multi_platform(), "example.test/app:v1")])
    file = tar_of_directory(layout.directory, tmp_path / "app.tar")
    assert tags(Archive(file)) == imported(containerd, file)


def test_symlinked_layers_are_followed_as_containerd_does(
    containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    directory = tmp_path / "saved"
    (directory / "a").mkdir(parents=True)
    (directory / "b").mkdir()
    (directory / "a" / "layer.tar").write_bytes(b"layer")
    (directory / "b" / "layer.tar").symlink_to("../a/layer.tar")
    (directory / "config.json").write_bytes(config_of(b"layer"))
    entry = {"Config": "config.json", "RepoTags": ["example.test/app:v1"], "Layers": ["b/layer.tar"]}
    (directory / "manifest.json").write_text(json.dumps([entry]))
    file = tmp_path / "app.tar"
    run("tar", "cf", file, "-C", directory, "a", "b", "config.json", "manifest.json")
    assert tags(Archive(file)) == imported(containerd, file)


def test_the_image_id_is_the_digest_of_the_config(
    busybox: Path, containerd: Containerd, tmp_path: Path, matcher: PlatformMatcher
) -> None:
    file = docker_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1")
    (target,) = imported(containerd, file).values()
    image_id = containerd.content(target, containerd.namespaces()[-1])["config"]["digest"]
    archive = Archive(file)
    assert read_image(archive.get("example.test/app:v1").target, archive, matcher).id == image_id


def test_gzip_changes_nothing_but_the_file(busybox: Path, tmp_path: Path, matcher: PlatformMatcher) -> None:
    file = docker_archive(busybox, "v1", tmp_path / "app.tar", "example.test/app:v1")
    plain, compressed = Archive(file), Archive(gzipped(file))
    assert compressed.records() == plain.records()


def test_the_config_of_a_docker_archive_has_the_digest_of_its_bytes(
    tmp_path: Path, matcher: PlatformMatcher
) -> None:
    archive = Archive(written(tmp_path / "app.tar", saved([(["app:v1"], [])], {})))
    target = archive.get("docker.io/library/app:v1").target
    assert read_image(target, archive, matcher).id == digest_of(CONFIG)
