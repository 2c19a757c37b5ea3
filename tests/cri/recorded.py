"""A source and a store in the state of a recording, which is replayed.

The recordings tell ids, sizes, users and targets, and not the documents. So the store is given what containerd
read from those, under the recorded ids, and answers can be compared as they are.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagekeep.errors import ContentNotFoundError, ImageNotFoundError
from imagekeep.image import PINNED_LABEL, ImageRecord, ObservedImage
from imagekeep.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.oci.content import ContentInfo
    from imagekeep.store import Store

Entry = dict[str, Any]


@dataclass
class RecordedSource:
    """A changeable source of records without documents."""

    by_name: dict[str, ImageRecord] = field(default_factory=dict)
    removed: list[tuple[str, bool]] = field(default_factory=list)

    def get(self, reference: str) -> ImageRecord:
        try:
            return self.by_name[reference]
        except KeyError:
            raise ImageNotFoundError(reference) from None

    def records(self) -> list[ImageRecord]:
        return list(self.by_name.values())

    def close(self) -> None:
        pass

    def read(self, descriptor: Descriptor) -> bytes:
        raise ContentNotFoundError(descriptor.digest)

    def info(self, digest: str) -> ContentInfo:
        raise ContentNotFoundError(digest)

    def remove(self, reference: str, *, synchronous: bool = False) -> None:
        self.removed.append((reference, synchronous))
        self.get(reference)
        del self.by_name[reference]

    def pin(self, reference: str) -> ImageRecord:
        raise NotImplementedError

    unpin = pin


class Recording:
    """A recording, replayed into a store by `play`."""

    def __init__(self, log: list[Entry], store: Store) -> None:
        self.source = RecordedSource()
        store.source = self.source
        self._store = store
        self._log = log
        replies = [reply for entry in log for reply in _replies(entry)]
        images = [
            image for reply in replies for image in [*reply.get("images", []), reply.get("image")] if image
        ]
        self._images = {image["id"]: image for image in images}
        self._configs = {
            reply["image"]["id"]: json.loads(reply["info"]["info"]) for reply in replies if "info" in reply
        }
        first = next(entry["names"] for entry in log if "names" in entry)
        self._first = {
            name: ImageRecord(name, _target(record), record["labels"]) for name, record in first.items()
        }
        self._ids = {
            record.target.digest: name for name, record in self._first.items() if name in self._images
        }

    @contextmanager
    def opening(self) -> Iterator[Store]:
        """Return the store for the server; the test closes it."""
        yield self._store

    def play(self, arguments: list[str]) -> None:
        """Do what a recorded `ctr -n k8s.io images …` did, and update the store."""
        verb, *names = [argument for argument in arguments[4:] if not argument.startswith("--")]
        if verb == "import":
            busybox = names == ["bb-oci.tar"]
            for record in self._first.values():
                if busybox is (self._ids[record.target.digest] == self._busybox):
                    self._put(record)
        elif verb == "tag":
            record = self.source.get(names[0])
            self._put(ImageRecord(names[1], record.target, {}))
        elif verb == "label":
            key, _, value = names[1].partition("=")
            record = self.source.get(names[0])
            labels = {**record.labels, key: value}
            self._put(ImageRecord(record.reference, record.target, {k: v for k, v in labels.items() if v}))
        elif verb == "rm":
            for name in names:
                del self.source.by_name[name]
                self._store.apply(name, None)
        else:
            raise NotImplementedError(verb)

    @property
    def _busybox(self) -> str:
        return str(self._ids[self._first["docker.io/library/busybox:1.35"].target.digest])

    def _put(self, record: ImageRecord) -> None:
        """Set a record, and update the store."""
        self.source.by_name[record.reference] = record
        image_id = self._ids[record.target.digest]
        image = self._images[image_id]
        facts = self._configs.get(image_id) or {
            "chainID": "",
            "imageSpec": {"config": {"User": _user(image)}},
        }
        config_json = json.dumps(facts["imageSpec"]).encode()
        pinned = record.labels.get(PINNED_LABEL) == "pinned"
        observed = ObservedImage(
            image_id, facts["chainID"], int(image["size"]), config_json, record.target.digest, pinned
        )
        self._store.apply(record.reference, observed)


def _replies(entry: Entry) -> list[Entry]:
    """Return the replies to a recorded call: several for a stream, none for a failure."""
    reply = entry.get("reply", [])
    return reply if isinstance(reply, list) else [reply]


def _target(record: Entry) -> Descriptor:
    return Descriptor("application/vnd.oci.image.manifest.v1+json", record["target"], 1)


def _user(image: Entry) -> str:
    return str(image["uid"].get("value", "0") if "uid" in image else image.get("username", ""))
