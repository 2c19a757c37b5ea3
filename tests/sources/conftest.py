"""What the tests of sources share: a host that is always linux/amd64, and a containerd of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.platform import Platform, only
from imagekeep.sources.layout import OCILayout
from tests.images import LayoutWriter
from tests.tools import require, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.platform import PlatformMatcher

NOBODY = 65534

CONFIGURATION = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/grpc"
uid = {user}
gid = {group}
[ttrpc]
address = "{folder}/ttrpc"
uid = {user}
gid = {group}
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""


@pytest.fixture
def matcher() -> PlatformMatcher:
    """Return the matcher of linux/amd64, whatever the machine is."""
    return only(Platform("linux", "amd64"))


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """Return a writer of a layout in the folder `shop`."""
    return LayoutWriter(tmp_path / "shop")


@pytest.fixture
def source(layout: LayoutWriter, matcher: PlatformMatcher) -> OCILayout:
    """Return the source of that layout."""
    return OCILayout(layout.folder, matcher=matcher)


def listed(source: OCILayout) -> dict[str, str]:
    """Return each reference's target digest, and check that each reference is there once."""
    records = source.references()
    targets = {record.reference: record.target.digest for record in records}
    assert len(targets) == len(records)
    return targets


@pytest.fixture(params=["plain", "gzip", "stream", "gzip stream"])
def form(request: pytest.FixtureRequest) -> str:
    """Return each of the ways in which an archive comes, for `archives.opened`."""
    return str(request.param)


@dataclass(frozen=True)
class Containerd:
    """A containerd that runs in a folder of its own, without its CRI plugin."""

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


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Start a containerd for the session, as whoever runs the tests."""
    program = require("containerd")
    require("ctr")
    folder = tmp_path_factory.mktemp("containerd")
    configuration = CONFIGURATION.format(folder=folder, user=os.getuid(), group=os.getgid())
    (folder / "config.toml").write_text(configuration)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", folder / "config.toml"], stdout=log, stderr=log)
    try:
        wait_until_ready(folder, process)
        yield Containerd(str(folder / "grpc"))
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers a call; fail with its log where it ends instead."""
    deadline = time.monotonic() + 30
    version = [require("ctr"), "-a", str(folder / "grpc"), "version"]
    while (
        not (folder / "grpc").exists() or subprocess.run(version, capture_output=True, check=False).returncode
    ):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"containerd did not start: {(folder / 'log').read_text()}")
        time.sleep(0.02)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Return a folder that any user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run as a user to whom permissions apply, if this is root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
