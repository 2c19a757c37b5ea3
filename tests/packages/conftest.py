"""Builds each package once."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containerd import running
from tests.packages.containers import Node
from tests.packages.images import TAG, BuiltImage
from tests.tools import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGING = Path(__file__).parents[2] / "packaging"

NAME = "localhost/imagekeep"


@pytest.fixture(scope="session")
def build_image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BuiltImage]:
    """Return a function that builds the container image for an architecture."""
    for tool in ("buildah", "apt-get", "dpkg-deb"):
        require(tool)
    if os.geteuid():
        pytest.skip("only root may unpack packages as root's files")

    def build(architecture: str) -> BuiltImage:
        archive = tmp_path_factory.mktemp("image") / "image.tar"
        command = [
            str(PACKAGING / "container/build"),
            "--arch",
            architecture,
            "--name",
            f"{NAME}:{TAG}",
            str(archive),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return BuiltImage(archive)

    return build


@pytest.fixture(scope="session")
def image(build_image: Callable[[str], BuiltImage]) -> BuiltImage:
    """Return the container image for this machine."""
    return build_image(subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip())


@pytest.fixture
def ordinary(node: Node) -> Node:
    """Return the node with containers of the image's own user."""
    return Node(node.daemon, f"{NAME}:{TAG}")


@pytest.fixture(scope="session")
def node(image: BuiltImage) -> Iterator[Node]:
    """Yield a node whose containerd has the image and two others."""
    require("runc")
    # Not in a directory of pytest, which no user namespace can reach.
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "containerd") as daemon:
        directory = Path(name)
        directory.chmod(0o711)
        daemon.ctr("images", "import", "--base-name", NAME, image.with_tag_for_root(directory / "users"))
        for name in ("one", "two"):
            daemon.make_image(directory / name, f"example.test/{name}:v1")
        yield Node(daemon, f"{NAME}:root")
