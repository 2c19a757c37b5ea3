"""Fixtures of the tests of sources: a linux/amd64 platform, and a containerd."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.platform import Platform, only
from imagekeep.sources.oci_layout import OCILayout
from tests.images import LayoutWriter
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.platform import PlatformMatcher
    from tests.containerd import Daemon


@pytest.fixture
def matcher() -> PlatformMatcher:
    """Return the matcher of linux/amd64, whatever the machine is."""
    return only(Platform("linux", "amd64"))


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """Return a writer of a layout in the directory `shop`."""
    return LayoutWriter(tmp_path / "shop")


@pytest.fixture
def source(layout: LayoutWriter, matcher: PlatformMatcher) -> OCILayout:
    """Return the source of that layout."""
    return OCILayout(layout.directory)


def listed(source: OCILayout) -> dict[str, str]:
    """Return each reference's target digest, and check that each reference is there once."""
    records = source.records()
    targets = {record.reference: record.target.digest for record in records}
    assert len(targets) == len(records)
    return targets


@pytest.fixture(params=["plain", "gzip", "stream", "gzip stream"])
def form(request: pytest.FixtureRequest) -> str:
    """Return each form of an archive, for `archives.opened`."""
    return str(request.param)


@dataclass(frozen=True)
class Containerd:
    """The worker's containerd, to inspect imported archives."""

    socket: str

    def ctr(self, *arguments: str | Path, namespace: str = "test") -> str:
        """Run `ctr` against it and return what it printed."""
        return run("ctr", "-a", self.socket, "-n", namespace, *arguments).decode()

    def targets(self, namespace: str) -> dict[str, str]:
        """Return each image's name and its target's digest."""
        rows = self.ctr("images", "ls", namespace=namespace).splitlines()[1:]
        return {name: re.search(r"sha256:[a-f0-9]{64}", rest)[0] for name, rest in split_rows(rows)}  # type: ignore[index]

    def namespaces(self) -> list[str]:
        """Return its namespaces, the newest of those that the tests number last."""
        names = self.ctr("namespaces", "ls", "-q").split()
        return sorted(names, key=lambda name: int(name.rpartition("-")[2]) if "-" in name else -1)

    def content(self, digest: str, namespace: str) -> dict[str, Any]:
        """Return a JSON document of its content store."""
        document: dict[str, Any] = json.loads(self.ctr("content", "get", digest, namespace=namespace))
        return document


def split_rows(rows: list[str]) -> list[tuple[str, str]]:
    """Split a table's rows into the first column and the rest."""
    return [(row.split(None, 1)[0], row.split(None, 1)[1]) for row in rows]


@pytest.fixture
def containerd(daemon: Daemon) -> Containerd:
    """Return the worker's containerd, to import archives into namespaces of a test's own."""
    return Containerd(daemon.socket)
