"""The systemd units are valid, and set what the watcher and the server need."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagekeep.cli.command import GLOBAL_OPTIONS
from imagekeep.cli.serve import serve_images
from imagekeep.cli.settings import SYSTEM_STORE
from imagekeep.cli.systemd_units import SHIPPED_PROGRAM, UNITS
from imagekeep.cri.server import CONNECTIONS_MAX, DESCRIPTORS, OTHER_DESCRIPTORS


@pytest.fixture(params=["watch", "serve"])
def unit(request: pytest.FixtureRequest) -> Path:
    return UNITS / f"imagekeep-{request.param}.service"


@pytest.fixture
def service(unit: Path) -> configparser.SectionProxy:
    """Return a unit's service settings; the last of a repeated one."""
    return service_of(unit)


def service_of(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser["Service"]


def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("imagekeep")
    verifier = shutil.which("systemd-analyze")
    if verifier is None or not command.exists():
        pytest.skip(f"it takes systemd-analyze, and {command}")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(SHIPPED_PROGRAM, str(command)))
    done = subprocess.run([verifier, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_services_notify_readiness_and_restart(service: configparser.SectionProxy) -> None:
    assert (service["Type"], service["Restart"]) == ("notify", "always")


def test_the_store_is_in_the_state_directory(service: configparser.SectionProxy) -> None:
    assert SYSTEM_STORE.parent == Path("/var/lib") / service["StateDirectory"]


def test_the_configuration_file_overrides_what_the_unit_sets(unit: Path) -> None:
    variables = re.findall("^Environment=(.*)", unit.read_text(), re.MULTILINE)
    assert "IMAGEKEEP_DEFAULT_SOURCE=containerd" in variables
    overriding = {option.envvar for option in GLOBAL_OPTIONS}
    assert [each for each in variables if each.partition("=")[0] in overriding] == []


def test_files_are_private_to_their_owner(service: configparser.SectionProxy) -> None:
    assert (service["UMask"], service["StateDirectoryMode"]) == ("0077", "0700")


def test_only_unix_sockets_are_allowed(service: configparser.SectionProxy) -> None:
    assert service["RestrictAddressFamilies"] == "AF_UNIX"


def test_the_server_can_create_its_socket_where_others_reach_it() -> None:
    service = service_of(UNITS / "imagekeep-serve.service")
    listen = next(option for option in serve_images.params if option.name == "listen").default
    assert listen == f"unix:///run/{service['RuntimeDirectory']}/imagekeep.sock"
    assert service["RuntimeDirectoryMode"] == "0755"


def test_the_two_services_conflict() -> None:
    assert "\nConflicts=imagekeep-watch.service\n" in (UNITS / "imagekeep-serve.service").read_text()


def test_memory_is_limited(service: configparser.SectionProxy) -> None:
    assert service["MemoryMax"] in ("512M", "1G")


def test_the_server_has_enough_descriptors() -> None:
    service = service_of(UNITS / "imagekeep-serve.service")
    assert int(service["LimitNOFILE"]) == DESCRIPTORS >= CONNECTIONS_MAX + OTHER_DESCRIPTORS


@pytest.fixture
def shipper() -> Path:
    return UNITS / "imagekeep-ship.service"


def test_systemd_accepts_the_unit_that_ships(shipper: Path, tmp_path: Path) -> None:
    test_systemd_accepts_the_units(shipper, tmp_path)


def test_the_shipper_gets_its_credentials_from_systemd(shipper: Path) -> None:
    service = service_of(shipper)
    name, _, path = service["LoadCredential"].partition(":")
    assert service["Environment"] == f"IMAGEKEEP_FLEET_CREDENTIALS=%d/{name}"
    assert path.startswith("/etc/imagekeep/")
    test_services_notify_readiness_and_restart(service)
    test_the_store_is_in_the_state_directory(service)
    test_files_are_private_to_their_owner(service)
