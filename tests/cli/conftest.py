"""A directory to work in: the layout `busybox`, and the store `images.db` that was synced with it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest

from imagekeep.cli import main
from imagekeep.database.backup import copy_store
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.store import Store
from tests.images import PINNED, LayoutWriter, named

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Return the lines of standard output."""
        return self.out.splitlines()


class Run(Protocol):
    """Runs the command in this process, with these arguments."""

    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture(scope="session")
def directory_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the directory, with a store and a copy of it; only to be copied itself."""
    directory = tmp_path_factory.mktemp("cli")
    write_layout(directory / "busybox")
    layout = OCILayout(directory / "busybox")
    with Store.open(directory / "images.db", source=layout) as store:
        for record in layout.records():  # one by one: the copies of the store follow no source yet
            store.update(record.reference)
    copy_store(directory / "images.db", directory / "yesterday.db")
    return directory


def write_layout(directory: Path) -> LayoutWriter:
    """Write a layout of two images: 1.35, and a newer one that has two tags, of which `stable` pins it."""
    layout = LayoutWriter(directory)
    old, new = layout.image(environment=["SECRET=hunter2"]), layout.image(layers=(b"one", b"two" * 5000))
    layout.write_index([named(old, "1.35"), named(new, "1.36"), named(new, "stable", **{PINNED: "pinned"})])
    return layout


@pytest.fixture
def directory(directory_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a copy of that directory; its store is the one that is meant where none is named."""
    copied = tmp_path / "work"
    shutil.copytree(directory_template, copied)
    monkeypatch.chdir(copied)
    monkeypatch.setenv("IMAGEKEEP_STORE", "images.db")
    monkeypatch.delenv("IMAGEKEEP_SOURCE", raising=False)
    return copied


@pytest.fixture
def run(directory: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command in that directory."""

    def run_here(*arguments: str | Path) -> Result:
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return run_here
