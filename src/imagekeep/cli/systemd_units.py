"""`imagekeep systemd-units`."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import click

import imagekeep
from imagekeep.cli.command import command
from imagekeep.cli.output import write_line
from imagekeep.errors import FailedPreconditionError, PermissionDeniedError, UnavailableError, printable

UNITS = Path(imagekeep.__file__).parent / "units"

SHIPPED_PROGRAM = "/usr/local/bin/imagekeep"
"""The program that the shipped units run."""

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (nothing is written)
"""Directories that ProtectHome= and PrivateTmp= hide from the services."""


@command("imagekeep systemd-units")
@click.option("--install", metavar="DIRECTORY", help="Install the units in this directory.")
def systemd_units(install: str | None) -> None:
    """Print the systemd units' paths, or install them.

    imagekeep-watch.service watches containerd; imagekeep-serve.service also serves the CRI; imagekeep-ship.service
    ships to a fleet. The shipped units run /usr/local/bin/imagekeep. Units installed with `--install
    /etc/systemd/system` run this imagekeep.
    """
    for unit in sorted(UNITS.glob("*.service")):
        write_line(str(unit if install is None else _install(unit, Path(install), program())))


def program() -> Path:
    """Return the path of this imagekeep; raises FailedPreconditionError if a service could not run it."""
    found = Path(sysconfig.get_path("scripts")) / "imagekeep"
    running = Path(sys.argv[0])
    if not found.is_file() and running.is_absolute() and running.name == "imagekeep":
        found = running  # as installed by a Debian package
    if not found.is_file():
        raise FailedPreconditionError(
            f"{printable(found)} does not exist (install imagekeep with pip or pipx)"
        )
    if any(found.is_relative_to(directory) for directory in HIDDEN):
        raise FailedPreconditionError(
            f"{printable(found)}: hidden from services by ProtectHome= or PrivateTmp= "
            "(install imagekeep elsewhere, such as in /opt/imagekeep)"
        )
    return found


def _install(unit: Path, directory: Path, runs: Path) -> Path:
    """Write a unit that runs `runs` and return its path; raises PermissionDeniedError or UnavailableError."""
    text = unit.read_text(encoding="utf-8").replace(
        f"ExecStart={SHIPPED_PROGRAM} ", f"ExecStart={_word(runs)} "
    )
    written = directory / unit.name
    try:
        written.write_text(text, encoding="utf-8")
    except PermissionError as error:
        raise PermissionDeniedError(f"permission denied: {printable(written)} (run as root)") from error
    except OSError as error:
        raise UnavailableError(f"{printable(written)}: {error.strerror}") from error
    return written


def _word(path: Path) -> str:
    """Quote a path for a unit's command line (systemd.service(5), "Command lines")."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(character in escaped for character in " \t'\"\\") else escaped
