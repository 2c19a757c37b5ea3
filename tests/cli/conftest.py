"""Make a directory with the layout `busybox`, and the store `images.db` synced with it."""

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
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Return the lines of standard output."""
        return self.out.splitlines()


class Run(Protocol):
    """Runs the command in this process."""

    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture(scope="session")
def directory_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the directory once per session, to be copied by each test."""
    directory = tmp_path_factory.mktemp("cli")
    write_layout(directory / "busybox")
    layout = OCILayout(directory / "busybox")
    with Store.open(directory / "images.db", source=layout) as store:
        for (
            record
        ) in layout.records():  # update, not sync: the copies of the store must not follow a source yet
            store.update(record.reference)
    copy_store(directory / "images.db", directory / "yesterday.db")
    return directory


def write_layout(directory: Path) -> LayoutWriter:
    """Write a layout of two images: 1.35, and a newer one with two tags, which `stable` pins."""
    layout = LayoutWriter(directory)
    old, new = layout.image(environment=["SECRET=hunter2"]), layout.image(layers=(b"one", b"two" * 5000))
    layout.write_index([named(old, "1.35"), named(new, "1.36"), named(new, "stable", **{PINNED: "pinned"})])
    return layout


@pytest.fixture
def directory(directory_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a copy of that directory, with its store as the default."""
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
