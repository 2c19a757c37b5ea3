"""`imagekeep watch` without a containerd: how it starts, notifies systemd, and stops."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from imagekeep.systemd import notify
from tests.containerd import wait_until
from tests.watch.conftest import WITHIN
from tests.watch.process import Node, manager

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node without a containerd."""
    return Node(tmp_path, f"containerd:{tmp_path / 'nothing'}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_is_sent_with_or_without_the_source_and_a_signal_stops_it(
    number: signal.Signals, node: Node, tmp_path: Path
) -> None:
    with (
        manager(tmp_path) as systemd,
        node.watching(NOTIFY_SOCKET=str(tmp_path / "notify")) as watching,
    ):
        assert systemd.recv(100) == b"READY=1"
        assert node.store.exists()
        code, seconds = watching.end(number)
        assert systemd.recv(100) == b"STOPPING=1"
        assert code == 0
        assert seconds < WITHIN


def test_an_unavailable_source_is_logged_and_recorded(node: Node, tmp_path: Path) -> None:
    with (
        manager(tmp_path) as systemd,
        node.watching(NOTIFY_SOCKET=str(tmp_path / "notify")) as watching,
    ):
        systemd.recv(100)
        wait_until(watching.lines)
        watching.end()
        first = watching.lines()[0]
    assert first["level"] == "error"
    assert first["message"] == f"no socket at {tmp_path / 'nothing'} (is containerd running?)"
    watcher = node.info()["watcher"]
    assert watcher["running"] is False
    assert watcher["connected"] is None
    assert watcher["lastError"] == first["message"]
    assert watcher["stopped"]


def test_a_source_without_events_is_refused(tmp_path: Path) -> None:
    done = Node(tmp_path, f"oci:{tmp_path}").run("watch")
    assert done.returncode == 4
    assert "does not support watching" in done.stderr


def test_an_abstract_notify_socket_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"imagekeep-{tmp_path}"[:100]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1")
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify", "@imagekeep-nobody", "/" + "x" * 200])
def test_a_missing_notify_socket_is_not_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")
