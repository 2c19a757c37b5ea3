"""A relative path stays valid if the process changes its directory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep import Archive, OCILayout, Reader, Store, UnavailableError
from imagekeep.paths import full_path
from tests.images import tar_of_directory
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "docker.io/library/busybox:1"
LAYOUT = Path(__file__).parent / "data" / "layout"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


@pytest.fixture
def store(store_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> Iterator[Store]:
    """A store opened by a relative path, in a process that has changed its directory since."""
    monkeypatch.chdir(store_path.parent)
    with Store.open(store_path.name, platform=PLATFORM) as opened:
        monkeypatch.chdir(elsewhere)
        yield opened


def test_a_store_writes_to_the_path_it_was_opened_with(
    store: Store, store_path: Path, elsewhere: Path
) -> None:
    store.apply(NAME, IMAGES[0])
    assert list(elsewhere.iterdir()) == []  # not even a lock, which would keep nobody out
    with Reader.open(store_path) as reader:
        assert reader.references() == [NAME]


def test_another_thread_reads_the_path_the_store_was_opened_with(store: Store) -> None:
    store.apply(NAME, IMAGES[0])
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.extend(store.references()))
    thread.start()
    thread.join()
    assert read == [NAME]


def test_a_reader_reads_the_path_it_was_opened_with(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    with Store.open(store_path, platform=PLATFORM) as store:
        store.apply(NAME, IMAGES[0])
    monkeypatch.chdir(store_path.parent)
    with Reader.open(store_path.name) as reader:
        monkeypatch.chdir(elsewhere)
        assert [image.id for image in reader.iter()] == [IMAGES[0].id]


@pytest.mark.parametrize("form", ["layout", "archive"])
def test_a_source_reads_the_path_it_was_opened_with(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    tar_of_directory(LAYOUT, tmp_path / "hello.tar")
    monkeypatch.chdir(LAYOUT.parent if form == "layout" else tmp_path)
    source = OCILayout("layout", base_name="hello") if form == "layout" else Archive("hello.tar")
    monkeypatch.chdir(elsewhere)
    assert source.get("docker.io/library/hello:v1").reference == "docker.io/library/hello:v1"


def test_a_relative_path_without_a_current_directory_is_refused(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    monkeypatch.chdir(elsewhere)
    elsewhere.rmdir()
    with pytest.raises(UnavailableError, match=r"images\.db: the current directory has been removed"):
        full_path("images.db")
    assert full_path("/images.db") == Path("/images.db")
