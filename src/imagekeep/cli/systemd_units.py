"""`imagekeep systemd-units`."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import click

import imagekeep
from imagekeep.cli.command import command
from imagekeep.cli.output import write_line
from imagekeep.errors import FailedPreconditionError, PermissionDeniedError, UnavailableError, printable

UNITS = Path(imagekeep.__file__).parent / "units"

SHIPPED_PROGRAM = "/usr/local/bin/imagekeep"
"""Where the units expect imagekeep as they are."""

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 (nothing is written)
"""Directories that the units' ProtectHome= and PrivateTmp= hide from the services."""


@command("imagekeep systemd-units")
@click.option("--install", metavar="DIRECTORY", help="Write the units to this directory, for this imagekeep.")
def systemd_units(install: str | None) -> None:
    """Print where the systemd units are.

    imagekeep-watch.service follows containerd, and imagekeep-serve.service serves the CRI too. They run
    /usr/local/bin/imagekeep; written by `--install /etc/systemd/system` they run this imagekeep, wherever it is.
    """
    for unit in sorted(UNITS.glob("*.service")):
        write_line(str(unit if install is None else _install(unit, Path(install), program())))


def program() -> Path:
    """Return the path of this imagekeep; raises FailedPreconditionError if a service could not run it."""
    found = Path(sysconfig.get_path("scripts")) / "imagekeep"
    if not found.is_file():
        raise FailedPreconditionError(
            f"no program at {printable(found)} (install imagekeep with pip or pipx)"
        )
    if any(found.is_relative_to(directory) for directory in HIDDEN):
        raise FailedPreconditionError(
            f"{printable(found)} is in a directory that services do not see (install imagekeep in another, such as "
            "/opt/imagekeep)"
        )
    return found


def _install(unit: Path, directory: Path, runs: Path) -> Path:
    """Write a unit that runs the program `runs`, and return its path.

    Raises PermissionDeniedError, or UnavailableError if it cannot be written for another reason.
    """
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
    """Return a path as one word of a unit's command line (systemd.service(5), "Command lines")."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(character in escaped for character in " \t'\"\\") else escaped
