"""Starting and stopping `imagekeep serve`."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Run, directory_template, run, write_layout  # noqa: F401 - fixtures
from tests.cli.conftest import directory as directory
from tests.cri.process import Process, serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_soon_despite_a_connected_client(how: signal.Signals, tmp_path: Path) -> None:
    write_layout(tmp_path / "busybox")
    server = Process(tmp_path, source=f"oci:{tmp_path / 'busybox'}")
    with server.client() as client:
        client.images()
        # It takes 0.2 s; the point is that it does not wait for the client.
        assert server.end(how, 10) == 0
    assert not server.socket.exists()


def test_a_missing_store_is_created(tmp_path: Path) -> None:
    write_layout(tmp_path / "busybox")
    with serving(tmp_path, source=f"oci:{tmp_path / 'busybox'}") as server, server.client() as client:
        assert client.images() == []
    assert (tmp_path / "images.db").exists()


def test_a_second_server_reports_the_first_and_exits(tmp_path: Path, run: Run) -> None:  # noqa: F811
    write_layout(tmp_path / "busybox")
    with serving(tmp_path, source=f"oci:{tmp_path / 'busybox'}") as server:
        result = run("serve", "--listen", f"unix://{server.socket}")
    assert result.code == 4
    assert "is in use by another server" in result.err


@pytest.mark.parametrize(
    "options",
    [
        ("--socket-mode", "999"),
        ("--socket-mode", "rw"),
        ("--listen", "tcp://127.0.0.1:1"),
        ("--metrics", "localhost:9000"),
        ("--health", "9000"),
    ],
)
def test_invalid_options_are_refused(options: tuple[str, str], run: Run) -> None:  # noqa: F811
    assert run("serve", *options).code == 2


def test_an_archive_on_standard_input_cannot_be_served(run: Run) -> None:  # noqa: F811
    result = run("--source", "archive:-", "serve")
    assert (result.code, "sync it first" in result.err) == (2, True)


@pytest.mark.parametrize("package", ["grpc", "google.protobuf", "grpc_health", "grpc_reflection"])
def test_a_missing_package_is_named_with_its_install_command(package: str) -> None:
    without = f"import sys; sys.modules[{package!r}] = None"
    program = f"{without}; from imagekeep.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "pip install 'imagekeep[cri]'" in done.stderr


def test_comparing_with_containerds_cri_needs_no_server_package() -> None:
    program = "import sys; sys.modules['grpc_health'] = None; import imagekeep.cri.stale"
    subprocess.run([sys.executable, "-c", program], check=True)
