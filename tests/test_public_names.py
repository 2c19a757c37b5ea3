"""What `import imagekeep` offers."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import imagekeep


@pytest.mark.parametrize("name", [*imagekeep.__all__, "Containerd"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(imagekeep, name) is not None


def test_dir_shows_public_names_alone() -> None:
    assert set(dir(imagekeep)) == {*imagekeep.__all__, "Containerd", "__version__"}


def test_the_version_is_the_packages() -> None:
    assert imagekeep.__version__ == importlib.metadata.version("imagekeep")


def test_importing_it_loads_none_of_its_modules() -> None:
    program = "import sys, imagekeep; print([name for name in sys.modules if name.startswith('imagekeep.')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
