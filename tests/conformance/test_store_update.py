"""`update` with documents, from a source of records and blobs: the answers of containerd's Update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Descriptor, ImageRecord, Platform, Store
from imagekeep.errors import (
    ContentNotFoundError,
    ImagekeepError,
    ImageNotFoundError,
    SourceUnavailableError,
)
from imagekeep.image import PINNED_LABEL, PINNED_VALUE
from imagekeep.internals import apply_all, lock_references, mark_verified
from imagekeep.oci.content import ContentInfo
from tests.conformance.answers import error_class, looking_into, state_of
from tests.conformance.data import cases
from tests.conformance.holders import MODES
from tests.worker import PLATFORM, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep import Observation
    from tests.conformance.data import Case

CASES = [pytest.param(case, id=name) for name, case in cases("store_update")]


class RecordedSource:
    """A source of a case's records and blobs, which fails on request."""

    def __init__(self, case: Case) -> None:
        self.steps: list[list[Any]] = case["ops"]
        self.targets = [
            Descriptor(target["mediaType"], target["digest"], target["size"]) for target in case["targets"]
        ]
        self.blobs: dict[str, bytes] = {digest: blob.encode() for digest, blob in case["blobs"].items()}
        self.by_name: dict[str, ImageRecord] = {}
        self.fails = False

    def updates(self) -> Iterator[list[Any]]:
        """Give each step that is an update, having done here what comes before it."""
        for step in self.steps:
            if step[0] == "update":
                yield step
            else:
                self.change(step)

    def change(self, step: list[Any]) -> None:
        """Do what a step says happens at the source."""
        match step:
            case ["set", name, target, pinned]:
                labels = {PINNED_LABEL: PINNED_VALUE} if pinned else {}
                self.by_name[name] = ImageRecord(name, self.targets[target], labels)
            case ["del", name]:
                self.by_name.pop(name, None)
            case ["del_blob", digest]:
                self.blobs.pop(digest, None)
            case ["fail", fails]:
                self.fails = fails
            case _:
                raise ValueError(f"no such step: {step}")

    def get(self, reference: str) -> ImageRecord:
        if self.fails:
            raise SourceUnavailableError("backend unavailable")
        if reference not in self.by_name:
            raise ImageNotFoundError(reference)
        return self.by_name[reference]

    def records(self) -> list[ImageRecord]:
        return list(self.by_name.values())

    def close(self) -> None:
        pass

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.blobs:
            raise ContentNotFoundError(descriptor.digest)
        return self.blobs[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        return ContentInfo(digest, len(self.blobs[digest]))


def update(store: Store, reference: str) -> str:
    """Update a reference and return the result class."""
    try:
        store.update(reference)
    except ImagekeepError as error:
        return error_class(error)
    return "ok"


class Updater:
    """Updates an open store, a store reopened each time, or a store in another process."""

    def __init__(self, path: Path, source: RecordedSource, mode: str, worker: Worker) -> None:
        self.path, self.source, self.mode, self.worker = path, source, mode, worker
        self.store = self.open()
        worker.open(path)

    def open(self) -> Store:
        return Store.open(self.path, source=self.source, platform=Platform.parse(PLATFORM))

    def update(self, reference: str) -> str:
        if self.mode == MODES[1]:
            self.store.close()
            self.store = self.open()
        if self.mode != MODES[2]:
            return update(self.store, reference)
        try:
            with lock_references(self.store, [reference]):
                return self.worker.ask(apply, reference, self.store.observe(reference))
        except ImagekeepError as error:
            return error_class(error)


def apply(store: Store, reference: str, observed: Observation | None) -> str:
    """Apply, in another process, what was observed in this one; return the result class."""
    try:
        store.apply(reference, observed)
    except ImagekeepError as error:
        return error_class(error)
    return "ok"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_an_update_agrees_with_go(case: Case, mode: str, volatile_path: Path, worker: Worker) -> None:
    source = RecordedSource(case)
    updater = Updater(volatile_path, source, mode, worker)
    with looking_into(volatile_path) as connection:
        for number, (_, reference, expected, _, state) in enumerate(source.updates()):
            assert updater.update(reference) == expected, (number, reference)
            assert state_of(connection) == state, (number, reference)
    updater.store.close()


@pytest.mark.parametrize("case", CASES)
def test_a_failed_update_does_not_change_the_file(case: Case, volatile_path: Path) -> None:
    source = RecordedSource(case)
    with Store.open(volatile_path, source=source, platform=PLATFORM) as store:
        for _, reference, *_ in source.updates():
            before = bytes_of(volatile_path)
            if update(store, reference) != "ok":
                assert bytes_of(volatile_path) == before, reference


def bytes_of(path: Path) -> tuple[bytes, bytes]:
    """Return the content of the file and its write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    return path.read_bytes(), log.read_bytes() if log.exists() else b""


@pytest.mark.parametrize("case", CASES)
def test_a_later_listing_verifies_what_updates_wrote(case: Case, volatile_path: Path) -> None:
    """What `sync` verifies without reading a document equals what reading it again returns."""
    source = RecordedSource(case)
    with Store.open(volatile_path, source=source, platform=PLATFORM) as store:
        for _, reference, *_ in source.updates():
            update(store, reference)
            confirmed = mark_verified(store, source.records(), dry_run=True)
            source.fails, failing = False, source.fails
            for name, transition in confirmed.items():
                if (observed := read(store, name)) is not None:
                    assert apply_all(store, {name: observed}, dry_run=True) == {name: transition}
            source.fails = failing


def read(store: Store, name: str) -> Observation | None:
    """Observe a reference; return None if its blobs are gone."""
    observation = store.observe(name)
    return None if observation.errors else observation
