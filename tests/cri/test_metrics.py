"""The Prometheus metrics and their endpoint."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import socket as sockets
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cri.addresses import TcpAddress
from imagekeep.cri.metrics import (
    CLIENTS_MAX,
    Metrics,
    OneAtATime,
    is_local,
    serving_metrics,
)
from imagekeep.cri.store_metrics import is_writable
from imagekeep.cri.watcher_thread import OtherWatcher
from imagekeep.errors import FailedPreconditionError
from imagekeep.image import Image
from imagekeep.internals import record_watcher, watcher_lock
from imagekeep.store import Store
from imagekeep.times import current_time
from imagekeep.watcher_status import WatcherState
from tests.containerd import wait_until
from tests.cri.client import named, page_of
from tests.cri.process import serving
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from imagekeep.reader import Reader
    from tests.cri.conftest import Serve


@pytest.fixture
def metrics(reader: Reader) -> Metrics:
    return Metrics(reader, OtherWatcher(reader))


@pytest.fixture
def port() -> int:
    """Return a free port of the loopback interface."""
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def shown(metrics: Metrics, port: int) -> dict[str, Any]:
    """Return the fields of a server with metrics at the port."""
    show = functools.partial(serving_metrics, TcpAddress("127.0.0.1", port), metrics.page())
    return {"observe": metrics.observe, "background": show}


def connect(port: int) -> sockets.socket:
    connection = sockets.create_connection(("127.0.0.1", port), timeout=20)
    connection.settimeout(20)
    return connection


def scrape(port: int, host: str = "127.0.0.1") -> str:
    with connect(port) as connection:
        connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return connection.makefile("rb").read().decode()


def test_calls_are_counted_by_method_and_code(begin: Serve, shown: dict[str, Any], port: int) -> None:
    client = begin(**shown)
    for name in ("nope:v1", "nope:v2", ""):
        client.ask("ImageStatus", named(name))
    client.ask("StreamImages")
    page = scrape(port)
    assert 'imagekeep_grpc_calls_total{code="OK",method="ImageStatus"} 2.0' in page
    assert 'imagekeep_grpc_calls_total{code="UNKNOWN",method="ImageStatus"} 1.0' in page
    assert 'imagekeep_grpc_calls_total{code="OK",method="StreamImages"} 1.0' in page
    assert 'imagekeep_grpc_seconds_count{method="ImageStatus"} 3.0' in page


def test_the_store_and_its_watcher_are_measured(metrics: Metrics, store_path: Path) -> None:
    with Store.open(store_path) as store:
        store.add(Image("sha256:" + "1" * 64, ("a.test/a:v1", "a.test/a:v2"), "", 1, True, b"{}"))
        now = current_time()
        watcher = WatcherState(
            os.getpid(), "containerd", now, connected_at=now, events=3, reconciles=4, errors=5
        )
        with watcher_lock(store):
            record_watcher(store, watcher)
            page = page_of(metrics).splitlines()
    assert set(page) >= {
        "imagekeep_store_up 1.0",
        "imagekeep_images 1.0",
        "imagekeep_references 2.0",
        "imagekeep_pins 2.0",
        "imagekeep_source_followed 1.0",
        "imagekeep_events_total 3.0",
        "imagekeep_reconciles_total 4.0",
        "imagekeep_watch_errors_total 5.0",
    }
    (size,) = [line for line in page if line.startswith("imagekeep_store_bytes")]
    assert float(size.split()[1]) >= store_path.stat().st_size


def test_an_unreadable_store_is_reported(metrics: Metrics, reader: Reader) -> None:
    reader.close()
    assert "imagekeep_store_up 0.0" in page_of(metrics)


def test_a_store_that_cannot_be_written_is_reported(
    metrics: Metrics, store_path: Path, public_directory: Path
) -> None:
    assert "imagekeep_store_writable 1.0" in page_of(metrics)
    copy = public_directory / "images.db"
    copy.write_bytes(store_path.read_bytes())
    copy.chmod(0o444)
    assert is_writable(copy)  # by root
    with without_privileges():
        assert not is_writable(copy)
    copy.unlink()
    assert not is_writable(copy)


def test_a_full_disk_is_reported(metrics: Metrics, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 1000, 0, 0, 1000, 500, 500, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: full)
    assert "imagekeep_store_writable 0.0" in page_of(metrics)


def test_a_containerd_that_accepts_connections_is_up(reader: Reader, tmp_path: Path) -> None:
    path = str(tmp_path / "containerd.sock")
    metrics = Metrics(reader, OtherWatcher(reader), source_socket=path)
    assert "imagekeep_source_up 0.0" in page_of(metrics)
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert "imagekeep_source_up 1.0" in page_of(metrics)
    assert "imagekeep_source_up 0.0" in page_of(metrics)


def test_values_that_are_not_known_have_no_sample(metrics: Metrics) -> None:
    page = page_of(metrics)
    for name in ("source_up", "last_event_timestamp_seconds", "cri_drift_names", "shipped_seconds"):
        assert f"# TYPE imagekeep_{name} gauge" in page
        assert f"\nimagekeep_{name}" not in page


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:9323", True),
        ("127.9.9.9", True),
        ("[::1]:9323", True),
        ("LocalHost:9323", True),
        (None, True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:9323", False),
        ("10.0.0.1", False),
        ("[::1", False),
        ("[::1]evil.example", False),
        ("127.0.0.1:evil.example", False),
        ("localhost.:9323", True),
        ("localhost,evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("", False),
    ],
)
def test_only_loopback_hosts_are_local(host: str | None, local: bool) -> None:
    assert is_local(host) is local


def test_no_page_is_rendered_after_the_server_stops() -> None:
    """Its thread would read a closing store."""
    made: list[str] = []
    statuses: list[str] = []

    def page(environ: object, start_response: object) -> list[bytes]:
        made.append("page")
        return [b"page"]

    pages = OneAtATime(page)
    assert b"".join(pages({}, lambda status, *_: statuses.append(status))) == b"page"  # type: ignore[arg-type]
    pages.close()
    pages({}, lambda status, *_: statuses.append(status))  # type: ignore[arg-type]
    assert (made, statuses) == (["page"], ["503 Service Unavailable"])


def test_a_request_for_another_host_is_refused(begin: Serve, shown: dict[str, Any], port: int) -> None:
    begin(**shown)
    refused = scrape(port, "evil.example")
    assert refused.startswith("HTTP/1.0 421 ")
    assert "imagekeep_images" not in refused


def test_a_page_of_every_address_is_shown_to_every_host(begin: Serve, metrics: Metrics, port: int) -> None:
    begin(background=functools.partial(serving_metrics, TcpAddress("0.0.0.0", port), metrics.page()))
    assert "imagekeep_images 0.0" in scrape(port, "node-1.example")


def test_metrics_have_the_prometheus_format(begin: Serve, shown: dict[str, Any], port: int) -> None:
    begin(**shown)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        assert page.headers["Content-Type"].startswith("text/plain; version=")
        assert b"imagekeep_images 0.0" in page.read()


def test_metrics_are_served_on_ipv6_loopback(begin: Serve, metrics: Metrics, port: int) -> None:
    try:
        with sockets.socket(sockets.AF_INET6) as other:
            other.bind(("::1", port))
    except OSError:
        pytest.skip("this machine has no IPv6")
    begin(background=functools.partial(serving_metrics, TcpAddress("::1", port), metrics.page()))
    with urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=20) as page:
        assert b"imagekeep_images 0.0" in page.read()


def test_a_port_in_use_is_refused(begin: Serve, metrics: Metrics, socket: Path) -> None:
    with sockets.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = TcpAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(
            FailedPreconditionError,
            match=r"cannot serve metrics at 127\.0\.0\.1:\d+: Address already in use$",
        ):
            begin(background=functools.partial(serving_metrics, taken, metrics.page()))
    assert not socket.exists()


def test_hanging_scrapers_are_disconnected(
    begin: Serve, shown: dict[str, Any], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.metrics.CLIENT_TIMEOUT", 0.2)
    begin(**shown)
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(connect(port)) for _ in range(CLIENTS_MAX)]
        for connection in hanging:
            assert connection.recv(1) == b""
        assert "imagekeep_images" in scrape(port)


def test_a_client_beyond_the_limit_is_refused_at_once(begin: Serve, shown: dict[str, Any], port: int) -> None:
    begin(**shown)
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stack.enter_context(connect(port))
        with connect(port) as refused, contextlib.suppress(ConnectionError):
            assert refused.recv(1) == b""
    # The closed connections freed room.
    wait_until(lambda: "imagekeep_images" in scrape_or_nothing(port))


def scrape_or_nothing(port: int) -> str:
    with contextlib.suppress(ConnectionError):
        return scrape(port)
    return ""


def test_endless_headers_are_not_buffered(begin: Serve, shown: dict[str, Any], port: int) -> None:
    begin(**shown)
    with connect(port) as connection, contextlib.suppress(ConnectionError):  # which ends it too
        connection.sendall(b"x" * 100_000)
        assert connection.recv(1) == b""


def test_a_flood_of_the_metrics_port_does_not_exhaust_the_cris_descriptors(tmp_path: Path, port: int) -> None:
    with Store.open(tmp_path / "images.db"):
        pass
    with serving(tmp_path, f"--metrics=127.0.0.1:{port}") as server, contextlib.ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (128, hard))
        for _ in range(min(500, soft - 200)):
            connection = stack.enter_context(sockets.socket())
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect(("127.0.0.1", port))
        with server.client() as client:
            assert {client.ask("ListImages", timeout=5).code for _ in range(50)} == {"OK"}
        assert len(list(Path(f"/proc/{server.pid}/fd").iterdir())) < 128
        assert len(server.log.read_text().splitlines()) < 10


def test_connections_that_cannot_be_accepted_are_logged_once(tmp_path: Path, port: int) -> None:
    with Store.open(tmp_path / "images.db"):
        pass
    with serving(tmp_path, f"--metrics=127.0.0.1:{port}") as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(CLIENTS_MAX):
                stack.enter_context(connect(port))
            wait_until(lambda: "cannot accept connections" in server.log.read_text())
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(lambda: "imagekeep_images" in scrape_or_nothing(port))
        assert server.log.read_text().count("cannot accept connections") == 1
