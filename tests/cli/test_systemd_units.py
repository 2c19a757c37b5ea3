"""Locating and installing the systemd units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli import systemd_units

if TYPE_CHECKING:
    from tests.cli.conftest import Run

NAMES = ["imagekeep-serve.service", "imagekeep-ship.service", "imagekeep-watch.service"]


def test_paths_of_the_units_are_printed(run: Run) -> None:
    paths = [Path(line) for line in run("systemd-units").lines]
    assert [path.name for path in paths] == NAMES
    assert all(path.is_file() for path in paths)


@pytest.fixture
def installed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install imagekeep in a directory visible to services, with a name that a unit must quote."""
    program = directory / "opt 100%" / "imagekeep"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(program.parent))
    monkeypatch.setattr(systemd_units, "HIDDEN", ())
    return program


def test_installed_units_run_this_program(run: Run, directory: Path, installed: Path) -> None:
    (directory / "system").mkdir()
    assert run("systemd-units", "--install", "system").lines == [f"system/{name}" for name in NAMES]
    program = str(installed).replace("%", "%%")
    assert f'\nExecStart="{program}" watch\n' in (directory / "system" / NAMES[2]).read_text()


def test_program_invisible_to_services_is_refused(
    run: Run, directory: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd_units, "HIDDEN", (directory,))
    result = run("systemd-units", "--install", "system")
    assert result.code == 4
    assert result.err.startswith(f"Error: {installed}: hidden from services by ProtectHome= or PrivateTmp= (")


def test_missing_directory_is_named(run: Run, installed: Path) -> None:
    result = run("systemd-units", "--install", "nowhere")
    assert (result.code, result.err) == (125, f"Error: nowhere/{NAMES[0]}: No such file or directory\n")


def test_missing_program_is_named(run: Run, installed: Path) -> None:
    installed.unlink()
    result = run("systemd-units", "--install", ".")
    assert (result.code, result.err) == (
        4, f"Error: {installed} does not exist (install imagekeep with pip or pipx)\n",
    )  # fmt: skip


def test_a_program_of_a_debian_package_is_found(
    run: Run, directory: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/usr/nowhere")
    monkeypatch.setattr("sys.argv", [str(installed), "systemd-units"])
    (directory / "system").mkdir()
    assert run("systemd-units", "--install", "system").code == 0
    assert '100%%/imagekeep" watch\n' in (directory / "system" / "imagekeep-watch.service").read_text()
