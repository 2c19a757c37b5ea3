"""A source that counts, so that stale answers can be recognized.

Each reference has a number in a file that processes share, its order. To change the reference, take the next order;
the source then answers with an image that contains the newest order. If the order is a multiple of `GONE_EVERY` the
reference is gone; if of `PINNED_EVERY`, it pins.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from imagekeep import forks
from imagekeep.digest import digest_of
from imagekeep.errors import ContentNotFoundError, ImageNotFoundError
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GONE_EVERY = 11
PINNED_EVERY = 3
PLATFORM = "linux/amd64"

_REPOSITORY = "docker.io/library/scenario:"
_ORDER = struct.Struct("=q")


class Orders:
    """The newest order of each of `count` references, in a file; safe for any number of processes."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self.count = count
        if not path.exists():
            path.write_bytes(bytes(_ORDER.size * count))

    def newest(self, number: int) -> int:
        """Return the newest order of a reference."""
        with self._open(fcntl.LOCK_SH) as descriptor:
            order: int = _ORDER.unpack(os.pread(descriptor, _ORDER.size, number * _ORDER.size))[0]
            return order

    def take(self, number: int) -> int:
        """Take and return the next order of a reference."""
        with self._open(fcntl.LOCK_EX) as descriptor:
            order: int = _ORDER.unpack(os.pread(descriptor, _ORDER.size, number * _ORDER.size))[0] + 1
            os.pwrite(descriptor, _ORDER.pack(order), number * _ORDER.size)
            return order

    def raise_to(self, number: int, order: int) -> None:
        """Record an order, unless a later one is recorded."""
        with self._open(fcntl.LOCK_EX) as descriptor:
            noted: int = _ORDER.unpack(os.pread(descriptor, _ORDER.size, number * _ORDER.size))[0]
            os.pwrite(descriptor, _ORDER.pack(max(order, noted)), number * _ORDER.size)

    @contextmanager
    def _open(self, lock: int) -> Iterator[int]:
        with forks.activity():  # a child would inherit the lock and keep it
            descriptor = os.open(self._path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, lock)
                yield descriptor
            finally:
                os.close(descriptor)


class Documents(NamedTuple):
    """The config and the manifest of an image."""

    config: bytes
    manifest: bytes


@lru_cache(4096)
def documents_of(number: int, order: int) -> Documents:
    """Return the documents of a reference's image at an order."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"NUMBER={number}", f"ORDER={order}"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"layer %d" % number)]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [],
    }
    return Documents(config, json.dumps(manifest).encode())


def _descriptor(media_type: str, document: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(document), "size": len(document)}


def order_in(config: bytes) -> tuple[int, int]:
    """Return the reference's number and order in a config."""
    number, order = json.loads(config)["config"]["Env"]
    return int(number.partition("=")[2]), int(order.partition("=")[2])


def reference(number: int) -> str:
    """Return the name of a reference."""
    return f"{_REPOSITORY}{number}"


def twin(number: int) -> str:
    """Return the second name of a reference's image; both are changed in one batch."""
    return f"{_REPOSITORY}{number}-twin"


def number_of(name: str) -> int:
    """Return the number of a reference or twin."""
    return int(name.rpartition(":")[2].partition("-")[0])


class OrderedSource:
    """Answers with the newest order of each reference; implements `Source`.

    `last_said` maps each name to the order of the last answer.
    """

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.last_said: dict[str, int] = {}
        self._blobs: dict[str, bytes] = {}

    def get(self, name: str) -> ImageRecord:
        """Return the current record of a reference; raises ImageNotFoundError for other names."""
        if not name.startswith(_REPOSITORY):
            raise ImageNotFoundError(name)
        number = number_of(name)
        order = self.orders.newest(number)
        self.last_said[name] = order
        if order % GONE_EVERY == 0:
            raise ImageNotFoundError(name)
        documents = documents_of(number, order)
        self._blobs.update({digest_of(document): document for document in documents})
        labels = {PINNED_LABEL: PINNED_VALUE} if order % PINNED_EVERY == 0 else {}
        target = Descriptor(OCI_MANIFEST, digest_of(documents.manifest), len(documents.manifest))
        return ImageRecord(name, target, labels)

    def records(self) -> Iterator[ImageRecord]:
        """Yield the record of every reference that is not gone."""
        for number in range(self.orders.count):
            with suppress(ImageNotFoundError):
                yield self.get(reference(number))

    def close(self) -> None:
        """Do nothing."""

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document of an earlier answer."""
        try:
            return self._blobs[descriptor.digest]
        except KeyError:
            raise ContentNotFoundError(descriptor.digest) from None

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a document of an earlier answer."""
        if digest not in self._blobs:
            raise ContentNotFoundError(f"no blob {digest}")
        return ContentInfo(digest, len(self._blobs[digest]))
