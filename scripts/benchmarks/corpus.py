"""Generates the benchmark's images; the n-th is the same in every run.

Each has two references, a tag and a digest, and a config of about 4 KB, like an image of many build steps: nine
layers (eight of them shared with other images), an environment, labels, and a history.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import ContentNotFoundError, ImageNotFoundError
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PLATFORM = "linux/amd64"
PINNED_EVERY = 100
"""Every hundredth image is pinned, by its tag."""

_NUMBER, _TOP_LAYER, _CONFIG = "@number@", "@layer@", "@config@"
_SHARED_LAYERS = 8


class MadeImage(NamedTuple):
    """One image: its documents, and what a store must answer."""

    number: int
    image_id: str
    chain_id: str
    size: int
    config_json: bytes
    manifest: bytes
    target: Descriptor

    @property
    def tag(self) -> str:
        """Return its tagged reference."""
        return f"registry.example/team-{self.number % 97}/service-{self.number}:v1.{self.number % 10}"

    @property
    def references(self) -> tuple[str, str]:
        """Return its two references in Sort's order."""
        return self.tag, f"{self.tag.rpartition(':')[0]}@{self.target.digest}"

    @property
    def pinned(self) -> bool:
        """Return whether its tag pins it."""
        return self.number % PINNED_EVERY == 0

    def records(self) -> list[ImageRecord]:
        """Return a source's records of its references."""
        labels = {PINNED_LABEL: PINNED_VALUE} if self.pinned else {}
        tag, digest = self.references
        return [ImageRecord(tag, self.target, labels), ImageRecord(digest, self.target)]


class MemorySource:
    """A source of made images in memory; counts the documents read."""

    def __init__(self, images: Iterable[MadeImage]) -> None:
        self.by_name: dict[str, ImageRecord] = {}
        self.documents: dict[str, bytes] = {}
        self.documents_read = 0
        for image in images:
            self.add(image)

    def add(self, image: MadeImage) -> None:
        """Add an image with its references."""
        self.by_name |= {record.reference: record for record in image.records()}
        self.documents[image.target.digest] = image.manifest
        self.documents[image.image_id] = image.config_json

    def get(self, reference: str) -> ImageRecord:
        """Return the record of one reference."""
        try:
            return self.by_name[reference]
        except KeyError:
            raise ImageNotFoundError(f"no such image: {reference}") from None

    def records(self) -> Iterable[ImageRecord]:
        """Return every record."""
        return self.by_name.values()

    def close(self) -> None:
        """Do nothing."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document."""
        self.documents_read += 1
        try:
            return self.documents[descriptor.digest]
        except KeyError:
            raise ContentNotFoundError(f"no blob {descriptor.digest}") from None

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a document; no layer is there."""
        if digest not in self.documents:
            raise ContentNotFoundError(f"no blob {digest}")
        return ContentInfo(digest, len(self.documents[digest]))


def made_images(count: int, first: int = 0) -> Iterator[MadeImage]:
    """Yield `count` images, beginning with number `first`."""
    config, manifest, below = _config_template(), _manifest_template(), _shared_chain_id()
    for number in range(first, first + count):
        layer = _digest(f"layer {number}".encode())
        document = config.replace(_NUMBER, f"{number:08}").replace(_TOP_LAYER, layer).encode()
        image_id = _digest(document)
        said = manifest.replace(_CONFIG, image_id).replace(_TOP_LAYER, layer).encode()
        yield MadeImage(
            number,
            image_id,
            _digest(f"{below} {layer}".encode()),
            _layers_size() + len(document) + len(said),
            document,
            said,
            Descriptor(MANIFEST, _digest(said), len(said)),
        )


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _shared_layers() -> list[str]:
    return [_digest(f"shared layer {place}".encode()) for place in range(_SHARED_LAYERS)]


def _shared_chain_id() -> str:
    first, *others = _shared_layers()
    for layer in others:
        first = _digest(f"{first} {layer}".encode())
    return first


def _layer_sizes() -> list[int]:
    return [3_000_000 + 1_000 * place for place in range(_SHARED_LAYERS + 1)]


def _layers_size() -> int:
    return sum(_layer_sizes())


def _config_template() -> str:
    """Return a config's text; numbers replace a mark of their own length, so that all configs have one size."""
    steps = [
        {
            "created": f"2025-06-15T08:{step:02}:00.123456789Z",
            "created_by": f"RUN /bin/sh -c set -eux; apt-get install -y --no-install-recommends package-{step}"
            " && rm -rf /var/lib/apt/lists/* # buildkit",
            "comment": "buildkit.dockerfile.v0",
            "empty_layer": step % 2 == 1,
        }
        for step in range(2 * _SHARED_LAYERS + 1)
    ]
    return json.dumps(
        {
            "created": "2025-06-15T08:30:00.123456789Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": "1000:1000",
                "ExposedPorts": {"8080/tcp": {}},
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *(f"SETTING_{n}=value {n}" for n in range(8))],
                "Entrypoint": ["/usr/local/bin/service"],
                "Cmd": ["serve", "--number", _NUMBER],
                "WorkingDir": "/srv/app",
                "Labels": {f"org.opencontainers.image.label{n}": f"text of label {n}" for n in range(8)},
            },
            "rootfs": {"type": "layers", "diff_ids": [*_shared_layers(), _TOP_LAYER]},
            "history": steps,
        },
        separators=(",", ":"),
    )


def _manifest_template() -> str:
    layers = zip([*_shared_layers(), _TOP_LAYER], _layer_sizes(), strict=True)
    config_length = len(_config_template()) + len("00000000") - len(_NUMBER) + 71 - len(_TOP_LAYER)
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _CONFIG,
                "size": config_length,
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size}
                for digest, size in layers
            ],
        },
        separators=(",", ":"),
    )
