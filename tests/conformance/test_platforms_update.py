"""`update` for several platforms in one file: for each the answers of a containerd that keeps only that one."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Descriptor, ImageRecord, Platform, Store
from imagekeep.errors import ContentNotFoundError, ImagekeepError, ImageNotFoundError, NotFoundError
from imagekeep.image import PINNED_LABEL, PINNED_VALUE
from imagekeep.oci.content import ContentInfo
from imagekeep.platform import name_of
from tests.conformance.answers import looking_into
from tests.conformance.data import cases

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from tests.conformance.data import Case

CASES = [pytest.param(case, id=name) for name, case in cases("platforms_update")]

IMAGES = """
SELECT image_key, id, size FROM images JOIN platforms USING (platform_key) WHERE platform = ? ORDER BY id
"""
NAMES = """
SELECT name, pinned_refs.reference IS NOT NULL FROM "references"
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
WHERE "references".image_key = ? ORDER BY sort_rank, coalesce(sort_name, name), name
"""


class ChangingSource:
    """A source of a case's records and blobs, which changes and fails as the case says."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.targets = [Descriptor(t["mediaType"], t["digest"], t["size"]) for t in case["targets"]]
        texts: dict[str, str] = case["blobs"] | case["late"]
        self.documents = {digest: text.encode() for digest, text in texts.items()}
        self.present = set(case["blobs"])
        self.by_name: dict[str, ImageRecord] = {}
        self.fails = False

    def change(self, step: list[Any]) -> None:
        """Do what a step says happens at the source."""
        match step:
            case ["set", name, target, pinned]:
                labels = {PINNED_LABEL: PINNED_VALUE} if pinned else {}
                reference = self.case["names"][name]
                self.by_name[reference] = ImageRecord(reference, self.targets[target], labels)
            case ["del", name]:
                self.by_name.pop(self.case["names"][name], None)
            case ["put_blob", digest]:
                self.present.add(digest)
            case ["del_blob", digest]:
                self.present.discard(digest)
            case ["fail", fails]:
                self.fails = fails
            case _:
                raise ValueError(f"no such step: {step}")

    def get(self, reference: str) -> ImageRecord:
        if self.fails:
            raise ImagekeepError("backend unavailable")
        if reference not in self.by_name:
            raise ImageNotFoundError(reference)
        return self.by_name[reference]

    def records(self) -> list[ImageRecord]:
        return list(self.by_name.values())

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.present:
            raise ContentNotFoundError(descriptor.digest)
        return self.documents[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        return ContentInfo(digest, len(self.read(Descriptor("", digest, 0))))

    def close(self) -> None:
        pass


def classes(store: Store, reference: str, names: list[str]) -> list[str]:
    """Update a reference; return for each platform how it ended, in the data's words."""
    try:
        ended = store.update_platforms(reference)
    except ImagekeepError as error:
        return [_class(error)] * len(names)
    return [_class(ended.get(name)) for name in names]


def _class(ended: object) -> str:
    if not isinstance(ended, ImagekeepError):
        return "ok"
    return "not_found" if isinstance(ended, NotFoundError) else "other"


def state_of(connection: sqlite.Connection, platform: str, case: Case) -> dict[str, Any]:
    """Return the images and the resolved references of a platform, in the data's words."""
    ids = [image_id for image_id, _ in case["ids"]]
    images, cache = [], []
    for key, image_id, size in connection.execute(IMAGES, (platform,)).fetchall():
        names = [(case["names"].index(name), pinned) for name, pinned in connection.execute(NAMES, (key,))]
        number = ids.index(image_id)
        pins = sorted((name for name, pinned in names if pinned), key=lambda name: case["names"][name])
        images.append([number, size, int(bool(pins)), [name for name, _ in names], pins])
        cache += [[name, number] for name, _ in names]
    return {"im": images, "rc": sorted(cache)}


def expected(state: dict[str, Any]) -> dict[str, Any]:
    """Return Go's state with no pins where it has no entry or an empty one."""
    return {"im": [[*image[:4], image[4] or []] for image in state["im"]], "rc": state["rc"]}


@pytest.mark.parametrize("case", CASES)
def test_each_platform_answers_like_a_separate_store(case: Case, volatile_path: Path) -> None:
    source = ChangingSource(case)
    names = [name_of(Platform.parse(specifier)) for specifier in case["platforms"]]
    states: dict[str, Any] = defaultdict(lambda: {"im": [], "rc": []})
    with (
        Store.open(volatile_path, source=source, platforms=case["platforms"]) as store,
        looking_into(volatile_path) as connection,
    ):
        for number, step in enumerate(case["ops"]):
            if step[0] != "update":
                source.change(step)
                continue
            _, reference, results = step
            found = classes(store, case["names"][reference], names)
            assert found == [result[0] for result in results], (number, step)
            for name, (_, state, *_) in zip(names, results, strict=True):
                states[name] = expected(state) if state else states[name]
                assert state_of(connection, name, case) == states[name], (number, name)
    assert [states[name] for name in names] == [expected(state) for state in case["final"]]


@pytest.mark.parametrize("case", CASES)
def test_every_platform_is_resolved_and_listed(case: Case, volatile_path: Path) -> None:
    source = ChangingSource(case)
    with Store.open(volatile_path, source=source, platforms=case["platforms"]) as store:
        for step in case["ops"]:
            if step[0] == "update":
                with contextlib.suppress(ImagekeepError):
                    store.update(case["names"][step[1]])
            else:
                source.change(step)
        for specifier, state in zip(case["platforms"], case["final"], strict=True):
            images = {image.id: image for image in store.list(specifier)}
            assert list(images) == [case["ids"][image[0]][0] for image in state["im"]]
            for name, number in state["rc"]:
                assert store.resolve(case["names"][name], specifier) == case["ids"][number][0]
                assert store.get(case["ids"][number][0][:40], specifier) == images[case["ids"][number][0]]
        listed = [(image.id, image.platform) for image in store.list("*")]
        assert len(listed) == sum(len(state["im"]) for state in case["final"])
