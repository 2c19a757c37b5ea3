"""The systemd units are such as systemd takes, and say what the watcher and the server need."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagekeep.cli.serve import serve_images
from imagekeep.cli.settings import SYSTEM_STORE
from imagekeep.cli.systemd_units import SHIPPED_PROGRAM, UNITS
from imagekeep.cri.server import CONNECTIONS_MAX, DESCRIPTORS, OTHER_DESCRIPTORS


@pytest.fixture(params=["watch", "serve"])
def unit(request: pytest.FixtureRequest) -> Path:
    return UNITS / f"imagekeep-{request.param}.service"


@pytest.fixture
def service(unit: Path) -> configparser.SectionProxy:
    """Return what a unit says of the service; of a setting that is there twice, the last."""
    return service_of(unit)


def service_of(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser["Service"]


def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("imagekeep")
    verifier = shutil.which("systemd-analyze")
    if verifier is None or not command.exists():
        pytest.skip(f"it takes systemd-analyze, and {command}")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(SHIPPED_PROGRAM, str(command)))
    done = subprocess.run([verifier, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_waits_for_ready_and_is_started_again(service: configparser.SectionProxy) -> None:
    assert (service["Type"], service["Restart"]) == ("notify", "always")


def test_its_store_is_the_one_that_the_command_means(unit: Path, service: configparser.SectionProxy) -> None:
    assert f"IMAGEKEEP_STORE={SYSTEM_STORE}" in unit.read_text()
    assert SYSTEM_STORE.parent == Path("/var/lib") / service["StateDirectory"]


def test_only_its_owner_reads_what_it_writes(service: configparser.SectionProxy) -> None:
    assert (service["UMask"], service["StateDirectoryMode"]) == ("0077", "0700")


def test_it_speaks_over_unix_sockets_alone(service: configparser.SectionProxy) -> None:
    assert service["RestrictAddressFamilies"] == "AF_UNIX"


def test_the_server_may_make_its_socket_and_others_reach_it() -> None:
    service = service_of(UNITS / "imagekeep-serve.service")
    listen = next(option for option in serve_images.params if option.name == "listen").default
    assert listen == f"unix:///run/{service['RuntimeDirectory']}/imagekeep.sock"
    assert service["RuntimeDirectoryMode"] == "0755"


def test_two_watchers_do_not_run_at_once() -> None:
    assert "\nConflicts=imagekeep-watch.service\n" in (UNITS / "imagekeep-serve.service").read_text()


def test_its_memory_is_bounded(service: configparser.SectionProxy) -> None:
    assert service["MemoryMax"] in ("512M", "1G")


def test_the_server_has_the_descriptors_that_it_counts_on() -> None:
    service = service_of(UNITS / "imagekeep-serve.service")
    assert int(service["LimitNOFILE"]) == DESCRIPTORS >= CONNECTIONS_MAX + OTHER_DESCRIPTORS
