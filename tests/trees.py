"""Random trees of indexes, manifests, configs and layers, partly absent, and a naive reading of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imagekeep.errors import ContentNotFoundError, ImageNotFoundError
from imagekeep.image import ImageRecord
from imagekeep.oci.documents import OCI_INDEX, OCI_MANIFEST
from tests.oci.blobs import CONFIG_TYPE, LAYER_TYPE, Blobs, Entry, descriptor

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterator, Mapping

    from imagekeep.oci.descriptor import Descriptor

PLATFORMS: tuple[Entry, ...] = (
    {"os": "linux", "architecture": "amd64"},
    {"os": "linux", "architecture": "x86_64"},
    {"os": "linux", "architecture": "arm64", "variant": "v8"},
    {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.1"},
    {"os": "unknown", "architecture": "unknown"},
    {"os": "", "architecture": ""},
)
NAMES = tuple(f"registry.test/app:{number}" for number in range(4))


class TreeSource(Blobs):
    """A source of random targets; its documents and layers can be hidden, and appear again."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: set[str] = set()
        self.hidden: set[str] = set()
        self.targets: dict[str, Entry] = {}

    @property
    def everything(self) -> list[str]:
        return [*self.blobs, *self.layers]

    def has(self, digest: str) -> bool:
        return digest not in self.hidden and (digest in self.blobs or digest in self.layers)

    def read(self, descriptor: Descriptor) -> bytes:
        if not self.has(descriptor.digest):
            raise ContentNotFoundError(f"no blob {descriptor.digest}")
        return super().read(descriptor)

    def contents(self, digests: Collection[str] | None = None) -> Mapping[str, int]:
        wanted = self.everything if digests is None else digests
        return {digest: 1 for digest in wanted if self.has(digest)}

    def get(self, reference: str) -> ImageRecord:
        if reference not in self.targets:
            raise ImageNotFoundError(reference)
        return ImageRecord(reference, descriptor(self.targets[reference]))

    def records(self) -> list[ImageRecord]:
        return [self.get(reference) for reference in self.targets]

    def close(self) -> None:
        pass


class Forest:
    """Grows targets that share layers, configs and manifests."""

    def __init__(self, seed: random.Random) -> None:
        self.random = seed
        self.source = TreeSource()
        self.grown: list[Entry] = []
        self.pool = [self._layer(number) for number in range(6)]

    def _layer(self, number: int) -> Entry:
        size = self.random.choice([0, 1, 1_000, 2**40, 2**40 + 1, -5])
        entry = {"mediaType": LAYER_TYPE, "digest": f"sha256:{number:064x}", "size": size}
        self.source.layers.add(f"sha256:{number:064x}")
        return entry

    def manifest(self) -> Entry:
        """Return a new manifest, or one that was grown before."""
        old = [entry for entry in self.grown if entry["mediaType"] == OCI_MANIFEST]
        if old and self.random.random() < 0.3:
            return self.random.choice(old)
        layers = self.random.choices(self.pool, k=self.random.randint(0, 4))
        diff_ids = [f"sha256:{self.random.randint(0, 3):064x}" for _ in layers]
        if self.random.random() < 0.1:
            diff_ids.append("broken")
        config = {**self.random.choice(PLATFORMS), "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        broken = self.random.random() < 0.1
        document = (
            b"{"
            if broken
            else json.dumps({"config": self.source.add(CONFIG_TYPE, config), "layers": layers}).encode()
        )
        return self._grown(self.source.add(OCI_MANIFEST, document))

    def index(self, depth: int) -> Entry:
        """Return a new index, of at most this many levels."""
        entries = [
            self.index(depth - 1) if depth and self.random.random() < 0.2 else self.manifest()
            for _ in range(self.random.randint(0, 4))
        ]
        return self._grown(self.source.add_index(*map(self._with_platform, entries)))

    def target(self) -> Entry:
        """Return a manifest or an index."""
        return self.manifest() if self.random.random() < 0.3 else self.index(2)

    def _with_platform(self, entry: Entry) -> Entry:
        if self.random.random() < 0.4:
            return entry
        return entry | {"platform": self.random.choice(PLATFORMS)}

    def _grown(self, entry: Entry) -> Entry:
        self.grown.append(entry)
        return entry

    def hide(self) -> None:
        """Hide a random part of the content, and show the rest."""
        everything = self.source.everything
        share = self.random.choice([0, 0.1, 0.4])
        self.source.hidden = {digest for digest in everything if self.random.random() < share}


def entries_of(source: TreeSource, target: Entry) -> Iterator[tuple[str, str]]:
    """Yield the media type and digest of each entry beneath a target: a naive, recursive reading."""
    seen: set[str] = set()

    def below(entry: Entry) -> Iterator[tuple[str, str]]:
        if entry["mediaType"] == OCI_INDEX and source.has(entry["digest"]) and entry["digest"] not in seen:
            seen.add(entry["digest"])
            for child in json.loads(source.blobs[entry["digest"]])["manifests"]:
                yield child["mediaType"], child["digest"]
                yield from below(child)

    if target["mediaType"] == OCI_MANIFEST:
        yield OCI_MANIFEST, target["digest"]
    yield from below(target)


def state_of(source: TreeSource, manifest: str) -> tuple[str, int, int]:
    """Return the state of a manifest, and the number and bytes of its missing blobs."""
    size = {entry["digest"]: entry["size"] for entry in stated(source, manifest)}
    if not source.has(manifest):
        return "absent", 1, len(source.blobs[manifest])
    document = source.blobs[manifest]
    if document == b"{":
        return "partial", 0, 0
    missing = {entry["digest"] for entry in stated(source, manifest) if not source.has(entry["digest"])}
    bytes_missing = sum(size[digest] for digest in missing if 0 <= size[digest] <= 2**40)
    return ("partial" if missing else "complete"), len(missing), bytes_missing


def stated(source: TreeSource, manifest: str) -> list[Any]:
    """Return the descriptors in a manifest."""
    if source.blobs[manifest] == b"{":
        return []
    document = json.loads(source.blobs[manifest])
    return [document["config"], *document["layers"]]
