"""Cached lists: current when sent again, and consistent while the store changes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cri.listing import FULL_INTERVAL, Listing
from imagekeep.cri.protocol import LIST_IMAGES
from imagekeep.database.connection import connect
from imagekeep.errors import ImagekeepError
from imagekeep.image import Image
from imagekeep.reader import Reader
from imagekeep.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def image(image_id: str, *references: str, user: str = "", size: int = 1) -> Image:
    return Image(image_id, references, "", size, False, f'{{"config":{{"User":"{user}"}}}}'.encode())


@pytest.fixture
def store(store_path: Path) -> Iterator[Store]:
    with Store.open(store_path) as store:
        yield store


def listed(listing: Listing) -> list[tuple[str, list[str]]]:
    reply = LIST_IMAGES.response.FromString(b"".join(asyncio.run(listing.images())))
    return [(image.id, list(image.repo_tags)) for image in reply.images]


class Counting(Reader):
    """Counts reads, and lets a test act between reading rows and configs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[str] = []
        self.before_config: list[Any] = []

    def summaries(self, platform: Any = None) -> Any:
        self.reads.append("rows")
        return super().summaries(platform)

    def get(self, image_id: str, platform: Any = None) -> Image:
        self.reads.append("config")
        if self.before_config:
            self.before_config.pop()()
        return super().get(image_id, platform)


def test_nothing_is_reread_without_writes(store: Store, store_path: Path) -> None:
    store.add(image(ONE, "example.test/a:v1"))
    with Counting(store_path) as reader:
        listing = Listing(reader)
        assert listed(listing) == listed(listing) == [(ONE, ["example.test/a:v1"])]
        assert reader.reads == ["rows", "config"]


def test_a_change_by_another_connection_shows_at_once(store: Store, store_path: Path) -> None:
    with Reader.open(store_path) as reader:
        listing = Listing(reader)
        for number in range(1, 4):
            store.add(image(ONE, f"example.test/a:v{number}"))
            assert listed(listing) == [(ONE, [f"example.test/a:v{n}" for n in range(1, number + 1)])]


def test_only_images_that_changed_are_reread(store: Store, store_path: Path) -> None:
    store.add(image(ONE, "example.test/a:v1"))
    with Counting(store_path) as reader:
        listing = Listing(reader)
        listed(listing)
        reader.reads.clear()
        store.add(image(TWO, "example.test/b:v1"))
        assert listed(listing) == [(ONE, ["example.test/a:v1"]), (TWO, ["example.test/b:v1"])]
        assert reader.reads == []  # neither all rows nor the config of the other image


@pytest.mark.parametrize("reads_all", [False, True])
def test_every_change_shows(
    store: Store, store_path: Path, monkeypatch: pytest.MonkeyPatch, reads_all: bool
) -> None:
    if reads_all:
        monkeypatch.setattr("imagekeep.cri.listing.FULL_INTERVAL", 0.0)
    with Reader.open(store_path) as reader, Reader.open(store_path) as other:
        listing = Listing(reader)
        for change in random_changes(store, random.Random(7)):
            change()
            assert asyncio.run(listing.images()) == asyncio.run(Listing(other).images())


def random_changes(store: Store, chance: random.Random) -> Iterator[Callable[[], object]]:
    """Yield additions, moves, pins and removals, alone and several at once."""
    ids = [f"sha256:{number:064x}" for number in range(12)]
    names = [f"example.test/{number}:v1" for number in range(20)]

    def add() -> None:
        store.add(image(chance.choice(ids), *chance.sample(names, 2), user=str(chance.randrange(9))))

    def pin() -> None:
        name = chance.choice(store.references() or names)
        with contextlib.suppress(ImagekeepError):
            chance.choice((store.pin, store.unpin))(store.resolve(name), name)

    def delete() -> None:
        name = chance.choice(store.references() or names)
        with contextlib.suppress(ImagekeepError):
            store.delete(store.resolve(name), name)

    for _ in range(40):
        chosen = [chance.choice((add, pin, delete)) for _ in range(chance.choice((1, 1, 1, 1, 1, 4, 40)))]
        yield lambda chosen=chosen: [change() for change in chosen]  # type: ignore[misc]


def test_a_change_without_a_row_in_the_history_shows_after_a_while(
    store: Store, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(image(ONE, "example.test/a:v1"))
    with Reader.open(store_path) as reader, closing(connect(store_path)) as somebody:
        listing = Listing(reader)
        listed(listing)
        somebody.execute("UPDATE \"references\" SET name = 'example.test/b:v1', sort_name = NULL")
        now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: now + FULL_INTERVAL + 1)
        assert listed(listing) == [(ONE, ["example.test/b:v1"])]


def test_a_history_that_was_cut_short_is_not_relied_on(store: Store, store_path: Path) -> None:
    with Reader.open(store_path) as reader, closing(connect(store_path)) as somebody:
        store.add(image(ONE, "example.test/a:v1"))
        listing = Listing(reader)
        listed(listing)
        store.add(image(TWO, "example.test/b:v1"))
        store.add(image(TWO, "example.test/c:v1"))
        somebody.execute("DROP TRIGGER IF EXISTS reference_history_is_not_shortened")
        somebody.execute("DELETE FROM reference_history WHERE reference = 'example.test/b:v1'")
        assert listed(listing)[1] == (TWO, ["example.test/b:v1", "example.test/c:v1"])


def test_a_tag_that_moves_during_a_list_is_never_missing(store: Store, store_path: Path) -> None:
    store.add(image(ONE, "example.test/a:v1"))

    def move() -> None:
        store.add(image(TWO, "example.test/a:v1"))

    with Counting(store_path) as reader:
        reader.before_config = [move]
        assert listed(Listing(reader)) == [(TWO, ["example.test/a:v1"])]


def test_a_list_ends_however_fast_images_change(store: Store, store_path: Path) -> None:
    ids = [f"sha256:{number:064x}" for number in range(100)]
    store.add(image(ids[0], "example.test/a:v1"))

    def move() -> None:
        store.add(image(ids.pop(), "example.test/a:v1"))

    with Counting(store_path) as reader:
        reader.before_config = [move] * 90
        ((_, tags),) = listed(Listing(reader))
    assert tags == ["example.test/a:v1"]
    assert len(ids) > 90


def test_concurrent_calls_read_once(store: Store, store_path: Path) -> None:
    store.add(image(ONE, "example.test/a:v1"))

    async def ask_twice(listing: Listing) -> None:
        await asyncio.gather(listing.images(), listing.images())

    with Counting(store_path) as reader:
        asyncio.run(ask_twice(Listing(reader)))
        assert reader.reads == ["rows", "config"]
