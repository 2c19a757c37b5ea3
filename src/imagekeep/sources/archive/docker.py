"""Reads the archives of `docker save` before version 25, `podman save` and `skopeo copy … docker-archive:`.

Such an archive has no registry manifests. `manifest.json` lists files::

    [{"Config": "CONFIG.json", "RepoTags": ["busybox:1.36"], "Layers": ["LAYER.tar", …]}]

containerd makes a manifest from them on import, whose digest becomes the image's target. This module makes the
same, byte for byte, so targets, ids and sizes are those of `ctr images import` (containerd:
core/images/archive/importer.go, if no layer is already in its content store in compressed form).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagekeep.errors import CorruptError, InvalidDocumentError, printable
from imagekeep.oci.config import parse_root_filesystem
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import DOCKER_MANIFEST, ENTRIES_LIMIT
from imagekeep.oci.gojson import Reason, decode, list_of, parse, struct, text
from imagekeep.sources.archive.blobs import BufferedBlob
from imagekeep.sources.archive.compression import is_compressed
from imagekeep.sources.artifacts import Entry
from imagekeep.sources.naming import IMAGE_NAME
from imagekeep.sources.oci_layout import SAVED_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.sources.archive.blobs import Blob
    from imagekeep.sources.archive.members import MemberTable

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
COMPRESSED_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
"""The media type that containerd gives every compressed layer of such an archive, even zstd."""

CONFIGS_LIMIT = 32 << 20
"""Maximum bytes of the configs that manifest.json names, of which each 8 MiB can take seconds to decode."""

LAYERS_LIMIT = 200_000
"""Maximum number of layers of all images in an archive, counting each occurrence."""

_SAVED = list_of(
    struct(
        {"Config": text, "RepoTags": list_of(text, ENTRIES_LIMIT), "Layers": list_of(text, ENTRIES_LIMIT)}
    ),
    ENTRIES_LIMIT,
)


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One image of a manifest.json: the names of its members, and its tags as written."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


class Converter:
    """Makes the manifests of saved images, and finds their blobs by digest.

    Each member is hashed once, a chunk at a time, and each config decoded once, however many images share it.
    """

    def __init__(self, table: MemberTable, name: str) -> None:
        self._blobs: dict[str, Blob] = {}
        self._table = table
        self._where = f"{name}, member {SAVED_FILE}"
        self._digests: dict[int, str] = {}
        self._diff_ids: dict[str, tuple[str, ...] | None] = {}
        self._configs_left = CONFIGS_LIMIT
        self._layers_left = LAYERS_LIMIT

    def find(self, digest: str) -> Blob | None:
        """Return the blob with this digest if it is part of a converted image."""
        return self._blobs.get(digest)

    def digests(self) -> Iterable[str]:
        """Return the digests of all blobs of converted images."""
        return self._blobs

    def image_id(self, saved: SavedImage) -> str:
        """Return the digest of an image's config; raises InvalidDocumentError if the archive lacks it."""
        return self._digest(self._find(saved.config))

    def target(self, saved: SavedImage) -> Descriptor:
        """Return the descriptor of an image's manifest, as Go encodes containerd's struct.

        Raises InvalidDocumentError if the archive lacks a member, or a layer is not what the config says.
        """
        self._layers_left -= len(saved.layers)
        if self._layers_left < 0:
            raise InvalidDocumentError(self._where, Reason.TYPE, f"more than {LAYERS_LIMIT} layers")
        layers = [self._layer(layer) for layer in saved.layers]
        self._compare(saved, layers)
        config = self._descriptor(saved.config, CONFIG_TYPE)
        document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
        manifest = BufferedBlob(json.dumps(document, separators=(",", ":")).encode())
        digest = manifest.digest()
        self._blobs[digest] = manifest
        return Descriptor(DOCKER_MANIFEST, digest, manifest.size)

    def _compare(self, saved: SavedImage, layers: list[dict[str, Any]]) -> None:
        """Compare the layers with the config's diff ids: their number, and the digests of uncompressed ones.

        A config that cannot be read is skipped: its reader gets the error. A compressed layer is not compared: it
        would have to be decompressed.
        """
        diff_ids = self._read_diff_ids(saved.config)
        if diff_ids is None:
            return
        if len(diff_ids) != len(layers):
            raise self._refused(saved.config, f"has {len(diff_ids)} diff ids for {len(layers)} layers")
        for member, layer, diff_id in zip(saved.layers, layers, diff_ids, strict=True):
            if layer["mediaType"] == LAYER_TYPE and layer["digest"] != diff_id:
                raise self._refused(member, f"is not the layer that its config names, {printable(diff_id)}")

    def _read_diff_ids(self, member: str) -> tuple[str, ...] | None:
        """Return the diff ids of a config, or None if it cannot be read; raises InvalidDocumentError past a limit.

        An image with another number of diff ids than of layers is an error, so LAYERS_LIMIT bounds what is kept.
        """
        config = self._find(member)
        digest = self._digest(config)
        if digest not in self._diff_ids:
            self._configs_left -= config.size
            if self._configs_left < 0:
                raise InvalidDocumentError(
                    self._where, Reason.TYPE, f"its configs have more than {CONFIGS_LIMIT} bytes"
                )
            try:
                self._diff_ids[digest] = parse_root_filesystem(config.read(), member).diff_ids
            except CorruptError:
                self._diff_ids[digest] = None
        return self._diff_ids[digest]

    def _refused(self, member: str, reason: str) -> InvalidDocumentError:
        return InvalidDocumentError(self._where, Reason.TYPE, f"{printable(member)} {reason}")

    def _layer(self, member: str) -> dict[str, Any]:
        """Return the descriptor of a layer; its first bytes show whether it is compressed."""
        compressed = is_compressed(self._find(member).beginning())
        return self._descriptor(member, COMPRESSED_LAYER_TYPE if compressed else LAYER_TYPE)

    def _descriptor(self, member: str, media_type: str) -> dict[str, Any]:
        """Return the descriptor of a member, and keep its blob by its digest."""
        blob = self._find(member)
        digest = self._digest(blob)
        self._blobs[digest] = blob
        return {"mediaType": media_type, "digest": digest, "size": blob.size}

    def _digest(self, blob: Blob) -> str:
        if (digest := self._digests.get(id(blob))) is None:
            digest = self._digests[id(blob)] = blob.digest()
        return digest

    def _find(self, member: str) -> Blob:
        """Return the content of a member that manifest.json names."""
        blob = self._table.find(member)
        if blob is None:
            raise InvalidDocumentError(
                self._where, Reason.TYPE, f"names {printable(member)}, which the archive lacks"
            )
        return blob


def saved_images(table: MemberTable, name: str) -> tuple[SavedImage, ...] | None:
    """Return what manifest.json lists, or None if there is no such member; raises InvalidDocumentError."""
    document = table.find(SAVED_FILE)
    if document is None:
        return None
    where = f"{name}, member {SAVED_FILE}"
    images = decode(_SAVED, parse(document.read(), where), where)
    return tuple(
        SavedImage(
            image.get("Config", ""),
            tuple(image.get("Layers") or ()),
            tuple(filter(None, image.get("RepoTags") or ())),
        )
        for image in images or ()
    )


def entries_of(saved: SavedImage, target: Descriptor) -> list[Entry]:
    """Return an entry for each of an image's tags, or one without a name if it has none."""
    return [Entry(target, {IMAGE_NAME: tag}) for tag in saved.tags] or [Entry(target, {})]
