"""What the tests of the store share: who holds it, and an empty one in memory."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conformance.holders import DocumentBuffer, KeptOpen, Reopened, TwoProcesses
from tests.volatile import volatile_directory
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def volatile_path(store_template: Path) -> Iterator[Path]:
    """The file of an empty store, in memory where there is such a place."""
    with volatile_directory() as directory:
        path = directory / "images.db"
        shutil.copy(store_template, path)
        yield path


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """Another process; starting one takes longer than a trace."""
    with Worker() as other:
        yield other


@pytest.fixture
def holder(request: pytest.FixtureRequest) -> Iterator[DocumentBuffer]:
    """Who holds the store, by its mode."""
    held: DocumentBuffer
    if request.param == TwoProcesses.mode:
        held = TwoProcesses(request.getfixturevalue("worker"))
    else:
        held = {KeptOpen.mode: KeptOpen, Reopened.mode: Reopened}[request.param]()
    yield held
    held.close()
