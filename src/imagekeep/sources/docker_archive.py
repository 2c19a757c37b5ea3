"""The archives of `docker save` before version 25, `podman save` and `skopeo copy … docker-archive:`.

Such an archive has no manifest of the kind that registries have. `manifest.json` lists files::

    [{"Config": "CONFIG.json", "RepoTags": ["busybox:1.36"], "Layers": ["LAYER.tar", …]}]

containerd makes a manifest from them when it imports one, whose digest becomes the image's target. This
makes the same, byte for byte, so that targets, ids and sizes are those that `ctr images import` shows
(containerd: core/images/archive/importer.go, with no layer that is already known in compressed form).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagekeep.errors import InvalidDocumentError, printable
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import DOCKER_MANIFEST
from imagekeep.oci.gojson import Reason, decode, list_of, parse, struct, text
from imagekeep.sources.blobs import BufferedBlob
from imagekeep.sources.listing import Entry
from imagekeep.sources.naming import IMAGE_NAME
from imagekeep.sources.tar_input import is_compressed

if TYPE_CHECKING:
    from imagekeep.sources.blobs import Blob
    from imagekeep.sources.members import MemberTable

MANIFEST_FILE = "manifest.json"

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
COMPRESSED_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
"""What containerd calls every compressed layer of such an archive, zstd too."""

_SAVED = list_of(struct({"Config": text, "RepoTags": list_of(text), "Layers": list_of(text)}))


@dataclass(frozen=True, slots=True)
class Converted:
    """An archive as entries of an index.json, and the blobs that they lead to by digest."""

    entries: tuple[Entry, ...]
    blobs: dict[str, Blob]

    def find(self, digest: str) -> Blob | None:
        """Return the blob with this digest, if manifest.json leads to one."""
        return self.blobs.get(digest)


def convert(table: MemberTable, name: str) -> Converted:
    """Make entries and manifests of the images that manifest.json lists.

    Every layer is hashed once, a chunk at a time. `name` is what errors call the archive. Raises
    InvalidDocumentError where manifest.json is malformed, or names a file that the archive does not have.
    """
    members = _Members(table, name)
    entries: list[Entry] = []
    for saved in _saved_images(table, name):
        manifest = BufferedBlob(_manifest(saved, members))
        digest = manifest.digest()
        members.blobs[digest] = manifest
        target = Descriptor(DOCKER_MANIFEST, digest, manifest.size)
        tags = saved.get("RepoTags") or [""]
        entries.extend(Entry(target, {IMAGE_NAME: tag} if tag else {}) for tag in tags)
    return Converted(tuple(entries), members.blobs)


def _saved_images(table: MemberTable, name: str) -> list[dict[str, Any]]:
    """Decode manifest.json."""
    document = table.find(MANIFEST_FILE)
    if document is None:
        raise InvalidDocumentError(
            name,
            Reason.SYNTAX,
            "the archive has neither oci-layout nor manifest.json: it is no archive of images",
        )
    where = f"{name}, member {MANIFEST_FILE}"
    saved = decode(_SAVED, parse(document.read(), where), where)
    if saved is None:
        raise InvalidDocumentError(where, Reason.TYPE, "null where a list belongs")
    return saved


def _manifest(saved: dict[str, Any], members: _Members) -> bytes:
    """Return the manifest of one image, as Go encodes containerd's struct."""
    config = members.descriptor(saved.get("Config", ""), CONFIG_TYPE)
    layers = [members.layer(layer) for layer in saved.get("Layers") or ()]
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    return json.dumps(document, separators=(",", ":")).encode()


class _Members:
    """The members that images are made of, each hashed once however many images share it."""

    def __init__(self, table: MemberTable, name: str) -> None:
        self.blobs: dict[str, Blob] = {}
        self._table = table
        self._name = name
        self._digests: dict[int, str] = {}

    def layer(self, member: str) -> dict[str, Any]:
        """Return the descriptor of a layer; its first bytes tell whether it is compressed."""
        compressed = is_compressed(self._find(member).beginning())
        return self.descriptor(member, COMPRESSED_LAYER_TYPE if compressed else LAYER_TYPE)

    def descriptor(self, member: str, media_type: str) -> dict[str, Any]:
        """Return the descriptor of a member, and keep its blob by its digest."""
        blob = self._find(member)
        if (digest := self._digests.get(id(blob))) is None:
            digest = self._digests[id(blob)] = blob.digest()
        self.blobs[digest] = blob
        return {"mediaType": media_type, "digest": digest, "size": blob.size}

    def _find(self, member: str) -> Blob:
        """Return the content of a member that manifest.json names."""
        blob = self._table.find(member)
        if blob is None:
            where = f"{self._name}, member {MANIFEST_FILE}"
            raise InvalidDocumentError(
                where, Reason.TYPE, f"names {printable(member)}, which the archive lacks"
            )
        return blob
