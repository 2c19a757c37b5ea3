"""Measures the installed command from cold start to exit, against a script that runs the same SQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.corpus import made_images
from benchmarks.measure import cost
from imagekeep.database import statements
from imagekeep.database.driver import sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Row

ROUNDS = 31
CHECKOUT = Path(__file__).parents[2]

_BUILT_FROM = ("src", "migrations", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in")

_EXISTS = f"""
import sys
import click
from {sqlite.__name__} import connect
connection = connect(f"file:{{sys.argv[1]}}?mode=ro", uri=True, isolation_level=None)
sys.exit(connection.execute({statements.RESOLVE!r}, sys.argv[2:]).fetchone() is None)
"""

_LIST = f"""
import sys
import click
from {sqlite.__name__} import connect
connection = connect(f"file:{{sys.argv[1]}}?mode=ro", uri=True, isolation_level=None)
connection.execute({statements.REFERENCES!r}).fetchall()
connection.execute({statements.PINNED_IMAGES!r}).fetchall()
rows = connection.execute({statements.IMAGES_WITHOUT_CONFIG!r})
sys.stdout.write("".join(f"{{row[1]}}\\n" for row in rows))
"""


def install(directory: Path) -> Path:
    """Install a wheel of this checkout into a new environment, sharing this Python's packages; return its bin."""
    source, wheels, environment = directory / "source", directory / "wheels", directory / "environment"
    source.mkdir()
    for name in _BUILT_FROM:
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, source / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source)
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    _pip("--python", python, "install", "--no-deps", "--compile", *wheels.glob("*.whl"))
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "shared.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    )
    return environment / "bin"


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)  # noqa: S603 - this Python's own pip


def cold_starts(path: Path, count: int) -> Iterator[Row]:
    """Measure `image exists` and `images -q`."""
    image = next(made_images(1))
    ids = "".join(f"{image_id}\n" for image_id in sorted(image.image_id for image in made_images(count)))
    with tempfile.TemporaryDirectory() as directory:
        programs = install(Path(directory))
        for name, words, script, told, expected in (
            ("image exists", ["image", "exists", image.tag], _EXISTS, [image.tag], ""),
            ("images -q", ["images", "-q"], _LIST, [], ids),
        ):
            file = Path(directory, f"{name.replace(' ', '-')}.py")
            file.write_text(script)
            ours = [str(programs / "imagekeep"), "--store", str(path), *words]
            theirs = [str(programs / "python"), str(file), str(path), *told]
            yield cost(
                f"`imagekeep {name}`, {count:,} images, cold start to exit",
                lambda: _run(ours, expected),  # noqa: B023 - called in this turn of the loop
                lambda: _run(theirs, expected),  # noqa: B023
                1,
                at_most=1.5,
                rounds=ROUNDS,
                note="baseline: imports click and the driver, runs the same SQL",
            )


def _run(command: list[str], expected: str) -> None:
    """Run a program; raise ValueError unless it prints these lines in some order."""
    ours = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "IMAGEKEEP_SOURCE"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    if sorted(done.stdout.splitlines()) != expected.splitlines():
        raise ValueError(f"{command}: wrong answer")
