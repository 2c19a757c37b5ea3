"""What removing images frees: containerd's own walks over the content of 40 stores, for every subset recorded.

The view is `all`, of every platform, and only blobs that are present count: a node has one content store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.database.space import size_of_set
from imagekeep.errors import ContentNotFoundError, ImageNotFoundError
from imagekeep.image import Image, ImageRecord
from imagekeep.oci.content import ContentInfo
from imagekeep.reader import ask
from tests.conformance.content import descriptor_of
from tests.conformance.data import cases
from tests.database.rows import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.oci.descriptor import Descriptor
    from tests.conformance.data import Case

CASES = [pytest.param(case, id=name) for name, case in cases("layers")]


class CaseSource:
    """A source with the images and the content of a case."""

    def __init__(self, case: Case) -> None:
        self.documents: dict[str, bytes] = {digest: text.encode() for digest, text in case["blobs"].items()}
        self.layers: dict[str, int] = case["layers"]
        self.images = [ImageRecord(image["name"], descriptor_of(image["target"])) for image in case["images"]]

    def records(self) -> Iterator[ImageRecord]:
        return iter(self.images)

    def get(self, reference: str) -> ImageRecord:
        for record in self.images:
            if record.reference == reference:
                return record
        raise ImageNotFoundError(reference)

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.documents:
            raise ContentNotFoundError(f"no blob {descriptor.digest}")
        return self.documents[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        if digest in self.layers:
            return ContentInfo(digest, self.layers[digest])
        if digest in self.documents:
            return ContentInfo(digest, len(self.documents[digest]))
        raise ContentNotFoundError(f"no blob {digest}")

    def close(self) -> None:
        pass


def synced(case: Case, path: Path) -> set[str]:
    """Sync a store of every platform, record what the source has, and return the names in the store."""
    source = CaseSource(case)
    with Store.open(path, source=source, platforms="*") as store:
        store.sync()
    present = {*source.documents, *source.layers}
    with opened(path) as connection:
        for (digest,) in connection.execute("SELECT digest FROM blobs").fetchall():
            connection.execute("UPDATE blobs SET present = ? WHERE digest = ?", (digest in present, digest))
        connection.execute(
            "UPDATE chains SET unpacked = 1, unpacked_bytes = 1"
        )  # so that bytes count chain ids
        connection.commit()
        return {name for (name,) in connection.execute('SELECT DISTINCT name FROM "references"')}


@pytest.mark.parametrize("case", CASES)
def test_removing_images_frees_what_containerd_counts(case: Case, tmp_path: Path) -> None:
    stored = synced(case, tmp_path / "images.db")
    readable = len(stored) == len(case["images"])  # one that no platform's store can read keeps content, too
    with Store.open(tmp_path / "images.db") as store:
        for numbers, views in case["subsets"]:
            names = [case["images"][number]["name"] for number in numbers]
            if not stored.issuperset(names):
                continue
            _, (content, unpacked) = ask(store, size_of_set, names)
            counted = (content.total, content.kept, unpacked.total, unpacked.kept)
            assert counted == (tuple(views["all"][2:6]) if readable else (None,) * 4), names


def test_unknown_presence_makes_the_bytes_unknown(tmp_path: Path) -> None:
    [(_, case), *_] = cases("layers")
    synced(case, tmp_path / "images.db")
    with opened(tmp_path / "images.db") as connection:
        connection.execute("UPDATE blobs SET present = NULL")
        connection.execute("UPDATE chains SET unpacked_bytes = NULL")
        connection.commit()
    with Store.open(tmp_path / "images.db") as store:
        _, (content, unpacked) = ask(store, size_of_set, [image["name"] for image in case["images"]])
    assert (content.total, unpacked.total) == (None, None)


def test_a_target_of_unknown_content_makes_all_bytes_unknown(tmp_path: Path) -> None:
    [(_, case), *_] = cases("layers")
    synced(case, tmp_path / "images.db")
    with Store.open(tmp_path / "images.db") as store:
        store.add(Image("sha256:" + "ab" * 32, ("local:1",), "", 1, False, b"{}"))
        _, freed = ask(store, size_of_set, [case["images"][0]["name"]])
    assert freed.content.total is None
