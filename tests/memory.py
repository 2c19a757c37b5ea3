"""A source in memory, whose images a test makes, changes and breaks; it counts what is asked of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imagekeep import Descriptor, ImageRecord
from imagekeep.errors import ImageNotFoundError, SourceUnavailableError
from imagekeep.image import PINNED_LABEL, PINNED_VALUE
from tests.oci.blobs import Blobs, Entry, descriptor, layer

if TYPE_CHECKING:
    from collections.abc import Iterable


class MemorySource(Blobs):
    """Records and blobs in dicts; `asked` counts the calls of `get`, and `reads` the documents read."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, ImageRecord] = {}
        self.asked = 0
        self.fails = False

    def get(self, reference: str) -> ImageRecord:
        self.asked += 1
        if self.fails:
            raise SourceUnavailableError("the source does not answer")
        if reference not in self.by_name:
            raise ImageNotFoundError(reference)
        return self.by_name[reference]

    def records(self) -> Iterable[ImageRecord]:
        if self.fails:
            raise SourceUnavailableError("the source does not answer")
        return list(self.by_name.values())

    def close(self) -> None:
        """Do nothing: it holds nothing open."""

    def put(self, reference: str, number: int, *, pinned: bool = False, architecture: str = "amd64") -> str:
        """Let a reference name image `number`, and return that image's id."""
        return self.point(reference, self.image(number, architecture), pinned=pinned)

    def image(self, number: int, architecture: str = "amd64", **fields: object) -> Entry:
        """Make image `number` of as many layers, and return its manifest's entry."""
        diff_ids = [f"sha256:{number:063x}{each}" for each in range(number)]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": [f"NUMBER={number}"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        layers = [layer(each) for each in range(number)]
        return self.add_manifest(*layers, config=config, **fields)

    def point(self, reference: str, target: Entry, *, pinned: bool = False) -> str:
        """Let a reference point at a target; return its digest, or its config's where it is a manifest."""
        labels = {PINNED_LABEL: PINNED_VALUE} if pinned else {}
        self.by_name[reference] = ImageRecord(reference, descriptor(target), labels)
        return self.config_digest(target)

    def config_digest(self, target: Entry) -> str:
        """Return the id of the image whose manifest is the target."""
        document: dict[str, Any] = json.loads(self.blobs[target["digest"]])
        return str(document.get("config", target)["digest"])

    def remove(self, reference: str) -> None:
        """Let the source have no such reference."""
        del self.by_name[reference]

    def break_image(self, reference: str) -> None:
        """Lose the document that a reference points at."""
        del self.blobs[self.by_name[reference].target.digest]

    def target(self, reference: str) -> Descriptor:
        """Return what a reference points at."""
        return self.by_name[reference].target
