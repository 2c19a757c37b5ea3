"""Test images: made by umoci and skopeo, or written by hand with valid digests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.tools import require, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
PINNED = "io.cri-containerd.pinned"

ATTESTATION_PLATFORM = {"os": "unknown", "architecture": "unknown"}

Document = dict[str, Any]


def busybox_layout(directory: Path, *tags: str) -> Path:
    """Make an OCI layout of busybox with umoci, one image for all tags, `v1` by default; 0.15 s."""
    first, *others = tags or ("v1",)
    run("umoci", "init", "--layout", directory)
    run("umoci", "new", "--image", f"{directory}:{first}")
    run("umoci", "insert", "--image", f"{directory}:{first}", require("busybox"), "/bin/busybox")
    run("umoci", "config", "--image", f"{directory}:{first}", "--config.cmd", "/bin/busybox")
    for tag in others:
        run("umoci", "tag", "--image", f"{directory}:{first}", tag)
    run("umoci", "gc", "--layout", directory)
    return directory


def change_image(directory: Path, tag: str, environment: str) -> None:
    """Move a tag to an image with one more environment variable, as a build does."""
    run("umoci", "config", "--image", f"{directory}:{tag}", "--config.env", environment)


def docker_archive(layout: Path, tag: str, file: Path, reference: str) -> Path:
    """Copy an image of a layout into a new `docker-archive:` with skopeo."""
    run("skopeo", "copy", "-q", f"oci:{layout}:{tag}", f"docker-archive:{file}:{reference}")
    return file


def oci_archive(layout: Path, tag: str, file: Path, name: str = "") -> Path:
    """Copy an image of a layout into a new `oci-archive:` with skopeo; `name` becomes its ref.name."""
    run("skopeo", "copy", "-q", f"oci:{layout}:{tag}", f"oci-archive:{file}:{name or tag}")
    return file


def tar_of_directory(directory: Path, file: Path) -> Path:
    """Pack a directory's content into a tar with relative names."""
    with tarfile.open(file, "w") as archive:
        archive.add(directory, arcname=".")
    return file


def tar_of(members: Mapping[str, bytes], **options: Any) -> bytes:
    """Return a tar of regular members, in the given order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def gzipped(file: Path) -> Path:
    """Compress a file into one with the suffix `.gz`; return its path."""
    target = file.with_name(file.name + ".gz")
    target.write_bytes(gzip.compress(file.read_bytes(), 1))
    return target


def digest_of(content: bytes) -> str:
    """Return the sha256 digest of bytes, without imagekeep."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class LayoutWriter:
    """Writes an OCI layout by hand: every blob under its digest, whatever its content.

    ::

        layout = LayoutWriter(tmp_path / "shop")
        image = layout.image()
        layout.write_index([image | {"annotations": {REF_NAME: "v1"}}])
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write_index([])

    def blob(self, content: bytes) -> str:
        """Write a blob and return its digest."""
        digest = digest_of(content)
        self.path(digest).write_bytes(content)
        return digest

    def path(self, digest: str) -> Path:
        """Return where a blob is."""
        return self.directory / "blobs" / Path(*digest.split(":"))

    def document(self, document: Document, media_type: str, **more: Any) -> Document:
        """Write a JSON document and return its descriptor, with more fields if given."""
        content = json.dumps(document).encode()
        return {"mediaType": media_type, "digest": self.blob(content), "size": len(content), **more}

    def image(
        self,
        *,
        architecture: str = "amd64",
        system: str = "linux",
        environment: Sequence[str] = (),
        layers: Sequence[bytes] = (b"layer",),
        media_type: str = OCI_MANIFEST,
        platform: bool = False,
    ) -> Document:
        """Write a config, its layers and a manifest; return the manifest's descriptor."""
        config = {
            "architecture": architecture,
            "os": system,
            "config": {"Env": list(environment)},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"unpacked " + layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.document(config, OCI_CONFIG),
            "layers": [
                {"mediaType": OCI_LAYER, "digest": self.blob(layer), "size": len(layer)} for layer in layers
            ],
        }
        where = {"platform": {"os": system, "architecture": architecture}} if platform else {}
        return self.document(manifest, media_type, **where)

    def index(self, manifests: Iterable[Document], media_type: str = OCI_INDEX) -> Document:
        """Write an index of manifests and return its descriptor."""
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}
        return self.document(document, media_type)

    def multi_platform(self, layers: Mapping[str, Sequence[bytes]] | None = None) -> Document:
        """Write an index of amd64, arm64 and an attestation, as BuildKit does; return its descriptor."""
        own = layers or {}
        images = [
            self.image(architecture=name, platform=True, layers=own.get(name, (b"layer",)))
            for name in ("amd64", "arm64")
        ]
        attestation = self.image(system="unknown", architecture="unknown", layers=(b"statement",))
        attestation["platform"] = ATTESTATION_PLATFORM
        attestation["annotations"] = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": images[0]["digest"],
        }
        return self.index([*images, attestation])

    def config_digest(self, manifest: Document) -> str:
        """Return the image id of a manifest that was written here."""
        content = json.loads(self.path(manifest["digest"]).read_bytes())
        return str(content["config"]["digest"])

    def write_index(self, entries: Iterable[Document]) -> None:
        """Write index.json anew, in place of the old file, as umoci does."""
        fresh = self.directory / "index.json.new"
        fresh.write_text(json.dumps({"schemaVersion": 2, "manifests": list(entries)}))
        fresh.replace(self.directory / "index.json")


def named(descriptor: Document, name: str, **annotations: str) -> Document:
    """Return a descriptor with a ref.name and other annotations."""
    return {**descriptor, "annotations": {REF_NAME: name, **annotations}}
