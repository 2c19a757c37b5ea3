"""The package as others get it: built, installed, and used from outside the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.tools import require

CHECKOUT = Path(__file__).parents[1]

NOT_SOURCES = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "data", "node_modules"
)


class Built(NamedTuple):
    """What `python -m build` made."""

    sdist: Path
    wheel: Path


class Installed(NamedTuple):
    """An environment with the wheel in it, and a directory that is far from the checkout."""

    binaries: Path
    directory: Path

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the environment's programs, and return what it printed; fail with its errors."""
        done = subprocess.run(
            [self.binaries / program, *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """What pyproject.toml says."""
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build a copy of the checkout, as a release is built: the wheel from the sdist."""
    directory = tmp_path_factory.mktemp("build")
    shutil.copytree(CHECKOUT, directory / "checkout", ignore=NOT_SOURCES)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            directory / "dist",
            directory / "checkout",
        ],
        capture_output=True,
        check=True,
    )
    return Built(*(next((directory / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl")))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel into an environment of its own, which takes the dependencies from this one."""
    directory = tmp_path_factory.mktemp("installed")
    environment = directory / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", built.wheel],
        capture_output=True,
        check=True,
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    # A directory that a .pth file names gives its modules, but its own .pth files are not read: the checkout, which
    # stands in this environment by one, is not seen from there.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(environment / "bin", directory)


DATA = {".binpb", ".html", ".json", ".mako", ".proto", ".py", ".pyi", ".service", ".sql", ".toml", ".typed"}


def modules_of(directory: Path) -> set[str]:
    """Return the Python files and data files of a package, by their path."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.suffix in DATA
    }


def test_the_wheel_holds_every_module_and_nothing_else(built: Built) -> None:
    expected = {f"imagekeep/{name}" for name in modules_of(CHECKOUT / "src" / "imagekeep")}
    expected |= {f"imagekeep/migrations/{name}" for name in modules_of(CHECKOUT / "migrations")}

    with zipfile.ZipFile(built.wheel) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    data = {name for name in packed if ".data/data/" in name}
    assert packed - data == expected
    assert {name.partition(".data/data/")[2] for name in data} == {"share/man/man1/imagekeep.1"}


def test_the_wheel_holds_the_licence_and_the_notice(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        packed = {Path(name).name for name in wheel.namelist() if ".dist-info/" in name}

    assert {"LICENSE", "NOTICE"} <= packed


def test_the_sdist_holds_the_tests_and_the_scripts(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}

    assert {"tests/conftest.py", "scripts/test", "CONTRIBUTING.md", "requirements-dev.txt"} <= packed


def test_the_installed_package_is_not_the_checkout(installed: Installed) -> None:
    file = Path(installed.run("python", "-c", "import imagekeep; print(imagekeep.__file__)").strip())

    assert file.is_relative_to(installed.directory)


def test_man_finds_the_page_of_the_environment_on_the_path(installed: Installed) -> None:
    found = subprocess.run(
        [require("man"), "-w", "imagekeep"],
        env={"PATH": f"{installed.binaries}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"{installed.binaries.parent / 'share/man/man1/imagekeep.1'}\n"


MAKE_A_STORE = """
from pathlib import Path
from imagekeep.database.revision import HEAD
from imagekeep.database.create import open_or_create, read_revision
open_or_create(Path("images.db"))
print(read_revision(Path("images.db")) == HEAD)
"""


def test_the_installed_package_makes_a_store_by_its_own_migrations(installed: Installed) -> None:
    assert installed.run("python", "-W", "error", "-c", MAKE_A_STORE) == "True\n"


def test_the_installed_command_says_its_version(installed: Installed, pyproject: dict[str, Any]) -> None:
    assert installed.run("imagekeep", "--version").startswith(f"imagekeep {pyproject['project']['version']} ")


def test_the_installed_command_moves_an_old_store_and_lists_its_images(installed: Installed) -> None:
    shutil.copyfile(CHECKOUT / "tests" / "data" / "stores" / "0001.db", installed.directory / "old.db")

    installed.run("imagekeep", "--store", "old.db", "db", "migrate")

    listed = installed.run("imagekeep", "--store", "old.db", "images", "-q")
    assert len(listed.splitlines()) == 4


def test_the_installed_package_is_typed(installed: Installed) -> None:
    code = "from importlib.resources import files; print((files('imagekeep') / 'py.typed').is_file())"

    assert installed.run("python", "-c", code) == "True\n"
