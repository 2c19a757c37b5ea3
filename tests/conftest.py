"""Fixtures of all tests: a fresh store, and hypothesis without a deadline."""

from __future__ import annotations

import logging
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
settings.register_profile("quick", parent=settings.get_profile("ci"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


SLOW = (
    "cli/test_completion.py",
    "cli/test_db.py",
    "cli/test_help.py",
    "cri/",
    "database/test_abandoned.py",
    "database/test_alembic.py",
    "database/test_driver.py",
    "database/test_lock.py",
    "database/test_migrate.py",
    "database/test_open_or_create.py",
    "database/test_watcher_lock.py",
    "fleet/",
    "packages/",
    "properties/",
    "sources/test_archive_untrusted.py",
    "sources/test_containerd",
    "sources/test_like_containerd.py",
    "sources/test_tar.py",
    "test_benchmark.py",
    "test_comparison.py",
    "test_concurrency.py",
    "test_forks.py",
    "test_image_actions.py",
    "test_imports.py",
    "test_oracles.py",
    "test_package.py",
    "test_readme.py",
    "test_replaced.py",
    "torture/",
    "watch/",
)
"""Path prefixes of tests that start many processes or a daemon, or feed megabytes."""


ONCE = ("browse/", "fleet/", "test_dependencies.py", "test_kubernetes.py", "test_package.py")
"""Path prefixes of tests that depend on no SQLite driver."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `scripts/test --quick` leaves out, and those that it runs once."""
    here = Path(__file__).parent
    for item in items:
        path = str(item.path.relative_to(here))
        if path.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if path.startswith(ONCE):
            item.add_marker(pytest.mark.once)


@pytest.fixture(autouse=True)
def log() -> Iterator[logging.Logger]:
    """Yield imagekeep's logger, and restore it: a command configures it for its process."""
    logger = logging.getLogger("imagekeep")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store, made by the migrations, to be copied."""
    path = tmp_path_factory.mktemp("template") / "images.db"
    open_or_create(path)
    return path


@pytest.fixture
def store_path(store_template: Path, tmp_path: Path) -> Path:
    """The file of an empty store of the newest revision."""
    path = tmp_path / "images.db"
    shutil.copy(store_template, path)
    return path


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory where any user may create files, like /tmp; pytest's are private."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o1777)
        yield directory
        directory.chmod(0o777)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_tally(terminalreporter)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A containerd without its CRI plugin, for all tests of a worker; each uses its own names."""
    with running(tmp_path_factory.mktemp("containerd"), CRI) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def cri_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A containerd with its CRI plugin, which adds records and labels; otherwise as `daemon`."""
    with running(tmp_path_factory.mktemp("containerd-cri")) as daemon:
        yield daemon


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A containerd namespace for one test."""
    return digest_of(request.node.nodeid.encode())[7:39]
