"""Blobs in memory for the tests, and the documents that images are made of."""

from __future__ import annotations

import json
from typing import Any

from imagekeep.digest import digest_of
from imagekeep.errors import ContentNotFoundError
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import OCI_INDEX, OCI_MANIFEST
from imagekeep.platform import Platform, PlatformMatcher, only

HOST = Platform("linux", "amd64")
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
PLATFORM = {"os": "linux", "architecture": "amd64"}

Entry = dict[str, Any]
"""A descriptor in JSON."""


class Blobs:
    """A content reader over a dict, which counts how often it is read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.reads = 0

    def read(self, descriptor: Descriptor) -> bytes:
        self.reads += 1
        if descriptor.digest not in self.blobs:
            raise ContentNotFoundError(f"no blob {descriptor.digest}")
        return self.blobs[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        if digest not in self.blobs:
            raise ContentNotFoundError(f"no blob {digest}")
        if digest not in self.blobs:
            raise ContentNotFoundError(f"no blob {digest}")
        return ContentInfo(digest, len(self.blobs[digest]))

    def add(self, media_type: str, document: object, **fields: object) -> Entry:
        """Keep a document, given as bytes or as what JSON makes of it, and return its descriptor."""
        blob = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(blob)
        self.blobs[digest] = blob
        return {"mediaType": media_type, "digest": digest, "size": len(blob), **fields}

    def add_manifest(self, *layers: Entry, config: object = None, **fields: object) -> Entry:
        config = self.add(CONFIG_TYPE, PLATFORM if config is None else config)
        return self.add(OCI_MANIFEST, {"config": config, "layers": list(layers)}, **fields)

    def add_index(self, *entries: Entry, **fields: object) -> Entry:
        return self.add(OCI_INDEX, {"manifests": list(entries)}, **fields)


def descriptor(entry: Entry) -> Descriptor:
    """Return an entry as the descriptor that a record would have for its target."""
    return Descriptor(entry["mediaType"], entry["digest"], entry["size"])


def layer(number: int, size: int = 1_000) -> Entry:
    return {"mediaType": LAYER_TYPE, "digest": f"sha256:{number:064x}", "size": size}


def linux_amd64() -> PlatformMatcher:
    return only(HOST, HOST)
