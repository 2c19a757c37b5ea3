"""What Prometheus is shown, and how it asks."""

from __future__ import annotations

import contextlib
import functools
import os
import socket as sockets
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cri.metrics import CONTENT_TYPE, Metrics
from imagekeep.cri.scraping import Loopback, parse_target, response, scraping
from imagekeep.cri.sockets import Access
from imagekeep.cri.watcher_thread import CurrentWatcher
from imagekeep.errors import FailedPreconditionError, InvalidArgumentError
from imagekeep.image import Image
from imagekeep.store import Store
from imagekeep.watcher_status import WatcherState
from tests.cri.client import named

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.reader import Reader
    from tests.cri.conftest import Serve


@pytest.fixture
def metrics(reader: Reader) -> Metrics:
    return Metrics(reader, CurrentWatcher(reader, own=False))


@pytest.fixture
def shown(metrics: Metrics, tmp_path: Path) -> dict[str, Any]:
    """Return the fields of a server that shows its metrics at the socket `metrics`."""
    show = functools.partial(scraping, tmp_path / "metrics", Access(), metrics.page, CONTENT_TYPE)
    return {"observe": metrics.observe, "beside": show}


def scrape(path: Path, request: bytes = b"GET /metrics HTTP/1.1\r\n\r\n") -> str:
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(request)
        return connection.makefile("rb").read().decode()


def test_calls_are_counted_by_method_and_code(begin: Serve, shown: dict[str, Any], tmp_path: Path) -> None:
    client = begin(**shown)
    for name in ("nope:v1", "nope:v2", ""):
        client.ask("ImageStatus", named(name))
    client.ask("StreamImages")
    page = scrape(tmp_path / "metrics")
    assert 'imagekeep_grpc_calls_total{code="OK",method="ImageStatus"} 2.0' in page
    assert 'imagekeep_grpc_calls_total{code="UNKNOWN",method="ImageStatus"} 1.0' in page
    assert 'imagekeep_grpc_calls_total{code="OK",method="StreamImages"} 1.0' in page
    assert 'imagekeep_grpc_seconds_count{method="ImageStatus"} 3.0' in page


def test_the_store_and_its_watcher_are_measured(metrics: Metrics, store_path: Path) -> None:
    with Store.open(store_path) as store:
        store.add(Image("sha256:" + "1" * 64, ("a.test/a:v1", "a.test/a:v2"), "", 1, True, b"{}"))
        watcher = WatcherState(os.getpid(), "containerd", 1, connected_at=2, events=3, reconciles=4, errors=5)
        with store.watcher_lock():
            store.record_watcher(watcher)
            page = metrics.page().decode().splitlines()
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


def test_a_store_that_cannot_be_read_is_told(metrics: Metrics, reader: Reader) -> None:
    reader.close()
    assert "imagekeep_store_up 0.0" in metrics.page().decode()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics?x=1 HTTP/1.1", "200"),
        (b"GET / HTTP/1.1", "404"),
        (b"POST /metrics", "405"),
        (b"", "405"),
    ],
)
def test_only_the_page_is_answered(request_line: bytes, status: str) -> None:
    assert response(request_line, lambda: b"page", "text/plain").split(b" ")[1] == status.encode()


@pytest.mark.parametrize(
    "target", ["0.0.0.0:90", "10.0.0.1:90", "localhost:90", "127.0.0.1", "127.0.0.1:x", ""]
)
def test_metrics_are_for_this_machine_alone(target: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no address for metrics"):
        parse_target(target)


def test_an_address_of_this_machine_is_taken() -> None:
    assert parse_target("127.0.0.1:9000") == Loopback("127.0.0.1", 9000)
    assert parse_target("[::1]:9000") == Loopback("::1", 9000)
    assert str(parse_target("unix:///run/m.sock")) == "/run/m.sock"


def test_metrics_are_shown_on_loopback(begin: Serve, metrics: Metrics) -> None:
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin(
        beside=functools.partial(scraping, Loopback("127.0.0.1", port), Access(), metrics.page, CONTENT_TYPE)
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        assert page.headers["Content-Type"] == CONTENT_TYPE
        assert b"imagekeep_images 0.0" in page.read()


def test_a_port_that_is_taken_is_refused(begin: Serve, metrics: Metrics, socket: Path) -> None:
    with sockets.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Loopback("127.0.0.1", other.getsockname()[1])
        with pytest.raises(
            FailedPreconditionError, match=r"no metrics at 127\.0\.0\.1:\d+: Address already in use$"
        ):
            begin(beside=functools.partial(scraping, taken, Access(), metrics.page, CONTENT_TYPE))
    assert not socket.exists()


def test_a_scraper_that_hangs_stops_no_other(
    begin: Serve, shown: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.cri.scraping.CLIENT_TIMEOUT", 0.2)
    begin(**shown)
    hanging = [sockets.socket(sockets.AF_UNIX) for _ in range(20)]
    for connection in hanging:
        connection.connect(str(tmp_path / "metrics"))
    assert "imagekeep_images" in scrape(tmp_path / "metrics")
    for connection in hanging:
        connection.close()


def test_a_head_that_never_ends_is_not_kept(begin: Serve, shown: dict[str, Any], tmp_path: Path) -> None:
    begin(**shown)
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(tmp_path / "metrics"))
        with contextlib.suppress(ConnectionError):  # which ends it as well
            connection.sendall(b"x" * 100_000)
            assert connection.recv(1) == b""
