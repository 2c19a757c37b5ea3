"""Archives with an index.json, a manifest.json or both: images of either are listed; no image is an error."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.errors import CorruptContentError, InvalidDocumentError
from imagekeep.oci.image import read_image
from imagekeep.sources.archive import Archive, docker
from tests.images import IMAGE_NAME, OCI_LAYER, OCI_MANIFEST, digest_of, tar_of, tar_of_directory
from tests.sources.archives import config_of, opened, references, saved
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher
    from tests.images import LayoutWriter

LAYER = gzip.compress(b"layer", mtime=0)


class Writer:
    """Writes an archive as Docker from version 25 does: a layout, and manifest.json beside it."""

    def __init__(self, layout: LayoutWriter) -> None:
        self.layout = layout
        self.listed: list[dict[str, Any]] = []
        self.saved: list[dict[str, Any]] = []

    def image(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write an image; return its entry of index.json, and of manifest.json."""
        layer = gzip.compress(b"%d" % number, mtime=0)
        config = json.loads(config_of(b"%d" % number))
        described = self.layout.document(config, "application/vnd.oci.image.config.v1+json")
        layers = [{"mediaType": OCI_LAYER, "digest": self.layout.blob(layer), "size": len(layer)}]
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}
        names = [f"blobs/sha256/{blob['digest'][7:]}" for blob in (described, *layers)]
        entry = self.layout.document(manifest, OCI_MANIFEST)
        return entry, {"Config": names[0], "RepoTags": None, "Layers": names[1:]}

    def archive(self, index: Any, manifest: Any, form: str, directory: Path) -> Archive:
        document = {"schemaVersion": 2, "manifests": index}
        (self.layout.directory / "index.json").write_text(json.dumps(document))
        (self.layout.directory / "manifest.json").write_text(json.dumps(manifest))
        content = tar_of_directory(self.layout.directory, directory / "x.tar").read_bytes()
        return opened(content, form, directory, base_name="base")


@pytest.fixture
def writer(layout: LayoutWriter) -> Writer:
    return Writer(layout)


def named(entry: dict[str, Any], name: str) -> dict[str, Any]:
    return {**entry, "annotations": {IMAGE_NAME: name}}


def tags(archive: Archive) -> list[str]:
    return sorted(name for name in references(archive) if "@" not in name)


@pytest.mark.parametrize("index", [None, []])
def test_images_that_only_manifest_json_lists_are_read(
    writer: Writer, form: str, tmp_path: Path, index: Any, matcher: PlatformMatcher
) -> None:
    _, one = writer.image(1)
    archive = writer.archive(index, [one, {**writer.image(2)[1], "RepoTags": ["shop/b:v1"]}], form, tmp_path)
    assert tags(archive) == ["docker.io/shop/b:v1"]
    assert len(references(archive)) == 3
    target = archive.get("docker.io/shop/b:v1").target
    assert read_image(target, archive, matcher).id == digest_of(config_of(b"2"))


def test_an_index_of_attestations_alone_does_not_hide_manifest_json(
    writer: Writer, form: str, tmp_path: Path
) -> None:
    _, image = writer.image(1)
    attestation = writer.layout.image(system="unknown", architecture="unknown")
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    archive = writer.archive([attestation], [{**image, "RepoTags": ["a:v1"]}], form, tmp_path)
    assert tags(archive) == ["docker.io/library/a:v1"]


def test_images_that_the_index_lacks_are_added(writer: Writer, form: str, tmp_path: Path) -> None:
    (entry, one), (_, two) = writer.image(1), writer.image(2)
    archive = writer.archive([entry], [one, {**two, "RepoTags": ["b:v1", "c:v1"]}], form, tmp_path)
    assert tags(archive) == ["docker.io/library/b:v1", "docker.io/library/c:v1"]
    assert f"docker.io/library/base@{entry['digest']}" in references(archive)
    assert len(references(archive)) == 5


def test_tags_that_the_index_lacks_are_of_its_target(writer: Writer, form: str, tmp_path: Path) -> None:
    entry, one = writer.image(1)
    archive = writer.archive([named(entry, "a:v1")], [{**one, "RepoTags": ["a:v1", "b:v2"]}], form, tmp_path)
    assert tags(archive) == ["docker.io/library/a:v1", "docker.io/library/b:v2"]
    assert {record.target.digest for record in archive.records()} == {entry["digest"]}


def test_an_image_of_an_index_in_the_index_is_known(writer: Writer, form: str, tmp_path: Path) -> None:
    (one, saved_one), (two, _) = writer.image(1), writer.image(2)
    index = writer.layout.index([one, two])
    archive = writer.archive([named(index, "a:v1")], [{**saved_one, "RepoTags": ["a:v1"]}], form, tmp_path)
    assert [record.target.digest for record in archive.records()] == [index["digest"]] * 2


def test_lists_that_agree_add_nothing(writer: Writer, form: str, tmp_path: Path) -> None:
    (one, saved_one), (two, saved_two) = writer.image(1), writer.image(2)
    manifest = [{**saved_one, "RepoTags": ["a:v1"]}, {**saved_two, "RepoTags": ["b:v1"]}]
    archive = writer.archive([named(one, "a:v1"), named(two, "b:v1")], manifest, form, tmp_path)
    assert len(references(archive)) == 4


def test_a_tag_that_is_another_image_in_each_list_is_an_error(
    writer: Writer, form: str, tmp_path: Path
) -> None:
    (one, _), (_, two) = writer.image(1), writer.image(2)
    with pytest.raises(InvalidDocumentError, match=r"different images are docker\.io/library/a:v1"):
        writer.archive([named(one, "a:v1")], [{**two, "RepoTags": ["a:v1"]}], form, tmp_path).records()


@pytest.mark.parametrize(("index", "manifest"), [(None, []), ([], []), ([{}], []), ([], None)])
def test_an_archive_that_lists_no_image_is_an_error(
    writer: Writer, form: str, tmp_path: Path, index: Any, manifest: Any
) -> None:
    with pytest.raises(InvalidDocumentError, match="lists no image"):
        writer.archive(index, manifest, form, tmp_path).records()


def test_a_manifest_json_of_null_adds_nothing(writer: Writer, form: str, tmp_path: Path) -> None:
    entry, _ = writer.image(1)
    assert tags(writer.archive([named(entry, "a:v1")], None, form, tmp_path)) == ["docker.io/library/a:v1"]


def test_an_archive_of_an_empty_manifest_json_is_an_error(form: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidDocumentError, match="lists no image"):
        opened(tar_of({"manifest.json": b"[]"}), form, tmp_path).records()


def docker_saved(form: str, directory: Path, config: bytes, layers: Sequence[bytes]) -> Archive:
    names = [f"{number}.tar" for number in range(len(layers))]
    members = {"config.json": config, **dict(zip(names, layers, strict=True))}
    return opened(saved(members, *names), form, directory)


def test_an_uncompressed_layer_that_its_config_does_not_name_is_an_error(form: str, tmp_path: Path) -> None:
    config = config_of(b"one", b"two")
    assert docker_saved(form, tmp_path, config, [b"one", b"two"]).records()
    for layers in ([b"one", b"flipped"], [b"two", b"one"]):
        with pytest.raises(InvalidDocumentError, match=r"tar is not the layer that its config names"):
            docker_saved(form, tmp_path, config, layers).records()


@pytest.mark.parametrize("layers", [[], [b"one"], [b"one", b"two", b"three"]])
def test_another_number_of_layers_than_the_config_says_is_an_error(
    form: str, tmp_path: Path, layers: list[bytes]
) -> None:
    with pytest.raises(InvalidDocumentError, match=f"has 2 diff ids for {len(layers)} layers"):
        docker_saved(form, tmp_path, config_of(b"one", b"two"), layers).records()


def test_a_compressed_layer_is_not_compared(form: str, tmp_path: Path) -> None:
    assert docker_saved(form, tmp_path, config_of(b"layer"), [LAYER]).records()


def test_more_layers_than_any_image_has_are_refused(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "LAYERS_LIMIT", 1)
    with pytest.raises(InvalidDocumentError, match="more than 1 layers"):
        docker_saved(form, tmp_path, config_of(b"one", b"two"), [b"one", b"two"]).records()


def test_a_config_of_many_images_is_decoded_once_and_all_are_bounded(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = config_of(), config_of() + b" "
    images = [{"Config": name, "RepoTags": [f"app:{tag}"]} for tag, name in enumerate("aaab")]
    members = {"a": first, "b": second, "manifest.json": json.dumps(images).encode()}
    monkeypatch.setattr(docker, "CONFIGS_LIMIT", len(first) + len(second))
    assert len(tags(opened(tar_of(members), form, tmp_path))) == 4
    monkeypatch.setattr(docker, "CONFIGS_LIMIT", len(first))
    with pytest.raises(InvalidDocumentError, match=f"configs have more than {len(first)} bytes"):
        opened(tar_of(members), form, tmp_path).records()


@pytest.mark.parametrize(
    "config",
    [
        b"null",
        b" null",
        b"null" + b" " * (1 << 19),
        b"{}",
        b'"text"',
        b"5",
        b"true",
        b"",
        b"\xef\xbb\xbf{}",
        b"x",
    ],
)
def test_a_config_is_read_alike_from_a_file_and_a_stream(
    layout: LayoutWriter, tmp_path: Path, matcher: PlatformMatcher, config: bytes
) -> None:
    described = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": layout.blob(config),
        "size": 1,
    }
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []}
    layout.write_index([named(layout.document(manifest, OCI_MANIFEST), "a:v1")])
    content = tar_of_directory(layout.directory, tmp_path / "x.tar").read_bytes()
    answers = []
    for form in ("plain", "gzip", "stream", "gzip stream"):
        archive = opened(content, form, tmp_path)
        try:
            answers.append(str(read_image(archive.get("docker.io/library/a:v1").target, archive, matcher)))
        except (InvalidDocumentError, CorruptContentError) as error:
            answers.append(str(error))
    assert len(set(answers)) == 1


def test_layers_of_json_do_not_fill_the_buffer(layout: LayoutWriter, tmp_path: Path) -> None:
    entries = []
    for number in range(12):
        layer = (
            b'{"_type":"https://in-toto.io/Statement/v0.1","n":%d,"x":"' % number + b"x" * (6 << 20) + b'"}'
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": layout.document(json.loads(config_of()), "application/vnd.oci.image.config.v1+json"),
            "layers": [{"mediaType": OCI_LAYER, "digest": layout.blob(layer), "size": len(layer)}],
        }
        entries.append(named(layout.document(manifest, OCI_MANIFEST), f"a:v{number}"))
    layout.write_index(entries)
    content = tar_of_directory(layout.directory, tmp_path / "x.tar").read_bytes()
    archive = Archive(io.BytesIO(gzip.compress(content, 1)))
    assert all(archive.read(record.target) for record in archive.records())


def test_a_tar_of_skopeo_s_dir_format_is_named(layout: LayoutWriter, form: str, tmp_path: Path) -> None:
    members = {"version": b"Directory Transport Version: 1.1\n", "manifest.json": b"{}"}
    with pytest.raises(InvalidDocumentError, match="skopeo's dir: format"):
        opened(tar_of(members), form, tmp_path).records()


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_a_sparse_member_of_any_version_is_refused_by_name(tmp_path: Path, form: str, version: str) -> None:
    with (tmp_path / "layer").open("wb") as file:
        file.truncate(1 << 20)
    content = run(
        "tar", "-c", "--sparse", f"--sparse-version={version}", "--format=posix", "-C", tmp_path, "layer"
    )
    with pytest.raises(InvalidDocumentError, match=r"the sparse member (\./)?layer;"):
        opened(content, form, tmp_path).records()


def test_names_of_many_bytes_are_refused(form: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(3000):
            link = tarfile.TarInfo(f"{number}/" + "d/" * 1900)
            link.type, link.linkname = tarfile.SYMTYPE, "b" * 3900
            archive.addfile(link)
    with pytest.raises(InvalidDocumentError, match="bytes of names"):
        opened(buffer.getvalue(), form, tmp_path).records()
