"""What every test may use: a fresh store, and hypothesis without a deadline."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from imagekeep.database.create import open_or_create
from tests.containerd import CRI, running
from tests.images import digest_of
from tests.tally import print_tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containerd import Daemon

# An example takes longer than usual where as many workers run as there are processors.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the migrations have made, closed; only to be copied."""
    path = tmp_path_factory.mktemp("template") / "images.db"
    open_or_create(path)
    return path


@pytest.fixture
def store_path(store_template: Path, tmp_path: Path) -> Path:
    """The file of an empty store of the newest revision, for one test."""
    path = tmp_path / "images.db"
    shutil.copy(store_template, path)
    return path


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that any user may enter and make files in, like /tmp, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o1777)
        yield directory
        directory.chmod(0o777)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_tally(terminalreporter)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A containerd without its CRI plugin, for all tests of a worker: each has names of its own there."""
    with running(tmp_path_factory.mktemp("containerd"), CRI) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def cri_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A containerd with its CRI plugin, which makes and labels records of its own; otherwise as `daemon`."""
    with running(tmp_path_factory.mktemp("containerd-cri")) as daemon:
        yield daemon


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Return a namespace of containerd of the test's own."""
    return digest_of(request.node.nodeid.encode())[7:39]
