"""Dependencies: explained in the README, with a lowest version, and locked for development."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).parents[1]
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LOCK = (CHECKOUT / "requirements-dev.txt").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))

RUNNING = [
    *PYPROJECT["project"]["dependencies"],
    *(line for extra in PYPROJECT["project"]["optional-dependencies"].values() for line in extra),
]
DEVELOPING = PYPROJECT["dependency-groups"]["dev"]


def normal(name: str) -> str:
    """Return a project's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


LOCKED = {
    normal(name): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", LOCK, re.MULTILINE)
}


@pytest.mark.parametrize("requirement", [*RUNNING, *DEVELOPING])
def test_the_readme_explains_each_dependency(requirement: str) -> None:
    table = CONTRIBUTING.partition("## Dependencies")[2].partition("\n\n[")[0]
    assert normal(Requirement(requirement).name) in normal(table)


@pytest.mark.parametrize("requirement", [*RUNNING, *DEVELOPING])
def test_each_dependency_has_a_lowest_version_and_is_locked_above_it(requirement: str) -> None:
    needed = Requirement(requirement)
    assert [specifier.operator for specifier in needed.specifier] == [">="]
    assert LOCKED[normal(needed.name)] in needed.specifier


def test_each_locked_version_has_hashes() -> None:
    entries = re.split(r"\n(?! )", LOCK.partition("\n\n")[2].strip())
    assert len(entries) == len(LOCKED)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
