"""Makes the example store once, and serves it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.cli.session import surroundings
from tests.demo_store import make_demo_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Served(NamedTuple):
    """A running `imagekeep browse`: its address with a slash at the end, and its token."""

    address: str
    token: str


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example store."""
    path = tmp_path_factory.mktemp("browse") / "demo.db"
    make_demo_store(path)
    return path


@pytest.fixture(scope="package")
def served(demo: Path) -> Iterator[Served]:
    """The example store in a process of its own."""
    with serving(demo) as running:
        yield running


@contextlib.contextmanager
def serving(store: Path) -> Iterator[Served]:
    """Run `imagekeep browse` on a free port."""
    with subprocess.Popen(
        [sys.executable, "-m", "imagekeep", "--store", store, "browse", "--port", "0"],
        stdout=subprocess.PIPE,
        env=surroundings(),
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\?token=(\S+)\n", process.stdout.readline())
            assert printed
            yield Served(printed[1], printed[2])
        finally:
            process.terminate()
            process.wait(timeout=30)
