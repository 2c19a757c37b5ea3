"""The systemd unit is one that systemd takes, and says what the watcher needs."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagekeep.cli.settings import SYSTEM_STORE

UNIT = Path(__file__).parents[2] / "scripts" / "imagekeep-watch.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    """Return what the unit says of the service; of a setting that is there twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def test_systemd_takes_it(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("imagekeep")
    verifier = shutil.which("systemd-analyze")
    if verifier is None or not command.exists():
        pytest.skip(f"it takes systemd-analyze, and {command}")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/imagekeep", str(command)))
    done = subprocess.run([verifier, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_waits_for_ready_and_is_started_again(service: configparser.SectionProxy) -> None:
    assert (service["Type"], service["Restart"]) == ("notify", "always")


def test_its_store_is_the_one_that_the_command_means(service: configparser.SectionProxy) -> None:
    assert f"IMAGEKEEP_STORE={SYSTEM_STORE}" in UNIT.read_text()
    assert SYSTEM_STORE.parent == Path("/var/lib") / service["StateDirectory"]


def test_only_its_owner_reads_what_it_writes(service: configparser.SectionProxy) -> None:
    assert (service["UMask"], service["StateDirectoryMode"]) == ("0077", "0700")


def test_it_speaks_over_unix_sockets_alone(service: configparser.SectionProxy) -> None:
    assert service["RestrictAddressFamilies"] == "AF_UNIX"
