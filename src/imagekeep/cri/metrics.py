"""Prometheus metrics, served over HTTP; needs `imagekeep[metrics]`.

The page is prometheus_client's WSGI application, in a thread. Any user of the machine or, at an address other than
loopback, of the network can connect, and prometheus_client's
own server has no limits. This one limits the clients, closes further connections, sets deadlines, renders one
page at a time, and limits the rate of connections so that the CRI keeps its share of the processor.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import logging
import re
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from imagekeep.cri.addresses import cannot_serve
from imagekeep.errors import MissingExtraError

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import make_wsgi_app
except ImportError as missing:
    raise MissingExtraError("prometheus_client", "metrics") from missing
from imagekeep.cri.store_metrics import StoreCollector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from imagekeep.cri.addresses import TcpAddress
    from imagekeep.cri.drift import DriftCheck
    from imagekeep.cri.watcher_thread import WatcherReport
    from imagekeep.reader import Reader

log = logging.getLogger("imagekeep.metrics")

_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30, 120)
"""Buckets from reading one image (0.1 ms) to a pull."""


class Metrics:
    """Counts calls and, when scraped, reads the store."""

    def __init__(
        self,
        reader: Reader,
        watcher: WatcherReport,
        *,
        source_socket: str | None = None,
        drift: DriftCheck | None = None,
    ) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "imagekeep_grpc_calls", "Completed calls.", ["method", "code"], registry=self._registry
        )
        self._latency = Histogram(
            "imagekeep_grpc_seconds",
            "Duration of calls in seconds.",
            ["method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(StoreCollector(reader, watcher, source_socket, drift))

    def observe(self, path: str, code: str, seconds: float) -> None:
        """Count a completed call by its method's path, the name of its code, and its seconds."""
        method = path.rpartition("/")[2]
        self._calls.labels(method, code).inc()
        self._latency.labels(method).observe(seconds)

    def page(self) -> WSGIApplication:
        """Return the WSGI application, which negotiates format and compression."""
        return make_wsgi_app(self._registry)


HEAD_BYTES_MAX: Final = 8192

CLIENT_TIMEOUT: Final = 5.0
"""Timeout in seconds for a client to send its request, and to read each part of the answer."""

CLIENTS_MAX: Final = 16

ACCEPT_INTERVAL: Final = 0.01
"""Minimum seconds between two connections. Prometheus opens one every 15 s."""

ACCEPT_RETRY: Final = 1.0
"""Seconds to wait after an accept has failed."""


@contextlib.asynccontextmanager
async def serving_metrics(target: TcpAddress, page: WSGIApplication) -> AsyncIterator[None]:
    """Serve the page within this context; raises FailedPreconditionError if the address cannot be bound."""
    server = _listen(target)
    pages = OneAtATime(page)
    server.set_app(local_only(pages) if target.is_loopback else pages)
    thread = threading.Thread(target=server.serve_until_stopped, name="imagekeep-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        await asyncio.to_thread(thread.join)
        server.server_close()
        await asyncio.to_thread(pages.close)


def _listen(target: TcpAddress) -> _Server:
    kind = _Server6 if ":" in target.host else _Server
    try:
        return kind(target, _Handler)
    except OSError as error:
        raise cannot_serve("metrics", target, error) from error


def local_only(page: WSGIApplication) -> WSGIApplication:
    """Refuse requests for other hosts.

    Otherwise a web page in a local browser could read the metrics through a name that it makes resolve to
    loopback (DNS rebinding).
    """

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_local(environ.get("HTTP_HOST")):
            return page(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
        return [b"use a loopback address as the host\n"]

    return application


_HOST: Final = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(?::[0-9]*)?")


def is_local(host: str | None) -> bool:
    """Return whether a Host header names this machine; a missing one is accepted, since browsers send it."""
    if host is None:
        return True
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts["v6"] or parts["name"]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() in ("localhost", "localhost.")


class OneAtATime:
    """Renders one page at a time, so that several clients do not take the processor from the CRI.

    Renders none once closed, because the store must not be closed during a read.
    """

    def __init__(self, page: WSGIApplication) -> None:
        self._page = page
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, with 503 once closed."""
        with self._lock:
            if not self._closed:
                return list(self._page(environ, start_response))
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"the server is stopping\n"]

    def close(self) -> None:
        """Wait for the page in progress and render no more."""
        with self._lock:
            self._closed = True


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves up to CLIENTS_MAX clients at once, each in a thread."""

    daemon_threads = True
    request_queue_size = CLIENTS_MAX

    def __init__(self, target: TcpAddress, handler: Callable[..., Any]) -> None:
        self._room = threading.BoundedSemaphore(CLIENTS_MAX)
        self._accepts = True
        self._stopping = False
        super().__init__(target, handler)

    def serve_until_stopped(self) -> None:
        """Serve without polling, as `serve_forever` would."""
        while not self._stopping:
            self.handle_request()

    def stop(self) -> None:
        """End `serve_until_stopped`, from another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # which wakes up the thread that waits for connections

    def server_bind(self) -> None:
        """Bind without the reverse DNS lookup of the standard library's server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> Any:
        """Accept a connection; log a lasting failure once."""
        time.sleep(ACCEPT_INTERVAL)
        try:
            accepted = super().get_request()
        except OSError as error:
            if self._stopping:
                raise
            if self._accepts:
                log.warning("cannot accept connections for metrics: %s", error.strerror)
            self._accepts = False
            time.sleep(ACCEPT_RETRY)
            raise
        self._accepts = True
        return accepted

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether another client can be served; its connection is closed otherwise."""
        return self._room.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected or timed out."""
        log.debug("a metrics client failed", exc_info=True)  # noqa: LOG014 (called while it is handled)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Answers one request, whose head must arrive by a deadline and within HEAD_BYTES_MAX."""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BytesIO(_read_head(self.connection, CLIENT_TIMEOUT))
        self.connection.settimeout(CLIENT_TIMEOUT)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name is the base class's
        """Do not log requests."""


def _read_head(connection: socket.socket, seconds: float) -> bytes:
    """Return a request's head; raises TimeoutError, or ConnectionAbortedError if it is incomplete or too long."""
    deadline = time.monotonic() + seconds
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        received = connection.recv(HEAD_BYTES_MAX - len(head))
        if not received:
            raise ConnectionAbortedError("the request's head did not end")
        head += received
    return head
