"""What `import imagekeep` offers."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import imagekeep
from imagekeep import errors
from imagekeep.database.revision import HEAD
from imagekeep.image import Image
from imagekeep.internals import apply_all, record_watcher
from imagekeep.reader import Reader
from imagekeep.store import Store
from imagekeep.watcher_status import WatcherState
from tests.model import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

ERRORS = [name for name, each in vars(errors).items() if inspect.isclass(each) and name.endswith("Error")]


@pytest.mark.parametrize("name", [*imagekeep.__all__, "Containerd"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(imagekeep, name) is not None


@pytest.mark.parametrize("name", [*ERRORS, "Category", "Stage"])
def test_every_error_can_be_imported_from_the_top_level(name: str) -> None:
    assert getattr(imagekeep, name) is getattr(errors, name)


@pytest.mark.parametrize("name", ["printable", "NoSuchError", "apply_all", "_MISSING"])
def test_no_other_name_can_be_imported_from_the_top_level(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(imagekeep, name)


def test_dir_shows_only_public_names() -> None:
    assert set(dir(imagekeep)) == {*imagekeep.__all__, "Containerd", "__version__"}


def test_the_version_is_the_packages() -> None:
    assert imagekeep.__version__ == importlib.metadata.version("imagekeep")


def test_importing_the_package_loads_none_of_its_modules() -> None:
    program = "import sys, imagekeep; print([name for name in sys.modules if name.startswith('imagekeep.')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


READING = {
    *(
        "close",
        "containers",
        "counts",
        "find",
        "get",
        "history",
        "identity",
        "incomplete",
        "is_pinned",
        "is_watched",
        "iter",
        "kept_platforms",
        "look_times",
    ),
    *("list", "open", "path", "platforms", "references", "resolve", "states", "summaries", "usage"),
    "watcher",
}
WRITING = {
    *("add", "apply", "delete", "observe", "pin", "platform", "source", "sync", "touch", "unpin", "update"),
    *("prune_history", "update_platforms"),
}


def test_a_store_and_a_reader_show_only_what_programs_need(store_path: Path) -> None:
    with Store.open(store_path) as store, Reader.open(store_path) as reader:
        assert {name for name in dir(reader) if not name.startswith("_")} == READING
        assert {name for name in dir(store) if not name.startswith("_")} == READING | WRITING


def test_list_says_that_it_returns_a_list_of_images(store_path: Path) -> None:
    assert inspect.signature(Reader.list).return_annotation == "builtins.list[Image]"
    with Store.open(store_path) as store:
        apply_all(store, {"a:1": IMAGES[0]})
        images = store.list()
    assert isinstance(images, list)
    assert [type(image) for image in images] == [Image]


def test_a_store_shows_its_path_and_revision(store_path: Path) -> None:
    with Store.open(store_path) as store, Reader.open(store_path) as reader:
        assert repr(store) == f"<Store {str(store_path)!r}, revision {HEAD}>"
        assert repr(reader) == f"<Reader {str(store_path)!r}, revision {HEAD}>"


def test_times_are_aware(store_path: Path) -> None:
    before = datetime.now(UTC)
    with Store.open(store_path) as store:
        apply_all(store, {"a:1": IMAGES[0]}, failures={"b:1": errors.ContentNotFoundError("no blob")})
        record_watcher(store, WatcherState(1, "memory", before, stopped_at=before + timedelta(seconds=1)))
        [entry], [incomplete], counts, watcher = (
            store.history("a:1"),
            store.incomplete(),
            store.counts(),
            store.watcher(),
        )
    assert before <= entry.at <= datetime.now(UTC)
    assert counts.oldest_verified_at == counts.newest_verified_at == entry.at
    assert incomplete.since == incomplete.tried_at == entry.at
    assert watcher is not None
    assert (watcher.started_at, watcher.stopped_at) == (before, before + timedelta(seconds=1))
