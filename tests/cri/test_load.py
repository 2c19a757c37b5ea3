"""Many concurrent clients while the store is written, and while the server is killed."""

from __future__ import annotations

import functools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.image import Image
from imagekeep.store import Store
from tests.containerd import wait_until
from tests.cri.client import Client, named
from tests.cri.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENTS = 64
IMAGES = 8
TAG = "example.test/moving:v1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open a store of a few images, one of which has a tag."""
    with Store.open(tmp_path / "images.db") as store:
        for number in range(IMAGES):
            names = (f"example.test/fixed:v{number}", *([TAG] if not number else []))
            store.add(Image(image_id(number), names, "", number, False, b'{"config":{"User":"%d"}}' % number))
        yield store


def image_id(number: int) -> str:
    return f"sha256:{number + 1:064x}"


class Mover(threading.Thread):
    """Moves a tag between images, each time in one transaction, until stopped."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._done = threading.Event()
        self.moves = 0

    def run(self) -> None:
        while not self._done.is_set():
            self.moves += 1
            number = self.moves % IMAGES
            self._store.add(Image(image_id(number), (TAG,), "", number, False, b"{}"))

    def stop(self) -> None:
        self._done.set()
        self.join()


def check_list(images: list[dict[str, Any]]) -> None:
    """Assert that a list is consistent: exactly one image has the tag, and each image has its own user."""
    assert [image["id"] for image in images] == [image_id(number) for number in range(IMAGES)]
    assert sum(TAG in image["repo_tags"] for image in images) == 1
    assert [int(image["uid"].get("value", 0)) for image in images] == list(range(IMAGES))


def check_status(client: Client) -> bool:
    """Assert that the tag resolves to an image that has it; return whether the server answered."""
    answer = client.ask("ImageStatus", named(TAG))
    if answer.code == "OK":
        assert TAG in answer.reply["image"]["repo_tags"]
    return answer.code == "OK"


def test_64_clients_at_once_are_answered_while_the_store_is_written(store: Store, tmp_path: Path) -> None:
    server, mover = Process(tmp_path), Mover(store)
    mover.start()

    def ask(_: int) -> None:
        with server.client() as client:
            for _ in range(20):
                check_list(client.images())
                assert check_status(client)

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, range(CLIENTS)))
    finally:
        mover.stop()
        assert server.end() == 0
    assert mover.moves > 10


def test_replies_before_and_after_a_kill_are_consistent(store: Store, tmp_path: Path) -> None:
    mover, stopping = Mover(store), threading.Event()
    answered = [0] * 8
    servers = [Process(tmp_path)]
    mover.start()

    def ask(which: int) -> None:
        with Client(servers[0].socket) as client:
            while not stopping.is_set():
                answer = client.ask("ListImages")
                if answer.code == "OK":
                    check_list(answer.reply["images"])
                    answered[which] += check_status(client)
                else:
                    assert answer.code == "UNAVAILABLE", answer

    def all_answered(before: list[int]) -> None:
        def each_did() -> bool:
            assert not any(each.done() for each in asking), [
                each.exception() for each in asking if each.done()
            ]
            return all(now > then for now, then in zip(answered, before, strict=True))

        wait_until(each_did)

    with ThreadPoolExecutor(len(answered)) as pool:
        asking = [pool.submit(functools.partial(ask, which)) for which in range(len(answered))]
        try:
            for _ in range(3):
                all_answered(list(answered))
                servers[-1].end(signal.SIGKILL)
                servers.append(Process(tmp_path))
            all_answered(list(answered))
        finally:
            stopping.set()
            mover.stop()
    assert servers[-1].end() == 0
    for each in asking:
        each.result()
