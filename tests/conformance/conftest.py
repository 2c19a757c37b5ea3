"""Fixtures: an empty store on tmpfs, and how a trace holds it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conformance.holders import Holder, KeptOpen, Reopened, TwoProcesses
from tests.volatile import volatile_directory
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def volatile_path(store_template: Path) -> Iterator[Path]:
    """The file of an empty store, on tmpfs if there is one."""
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
def holder(request: pytest.FixtureRequest) -> Iterator[Holder]:
    """The holder of the store, by mode."""
    held: Holder
    if request.param == TwoProcesses.mode:
        held = TwoProcesses(request.getfixturevalue("worker"))
    else:
        held = {KeptOpen.mode: KeptOpen, Reopened.mode: Reopened}[request.param]()
    yield held
    held.close()
