"""Serves the CRI until stopped.

One event loop answers all calls. To keep clients from blocking each other, connections, calls, message sizes and
replies in flight are limited, and whatever exceeds a limit is refused. Connections that are idle or do not answer
pings are closed, and calls whose request does not arrive are ended (handlers).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from imagekeep.cri import protocol
from imagekeep.cri.cri_proxy import CriProxy
from imagekeep.cri.handlers import Endpoint, generic_handlers
from imagekeep.cri.images import ImageService
from imagekeep.cri.mutations import Mutations
from imagekeep.cri.server_info import CHECK, REFLECT, Health, Reflection, RuntimeCalls, RuntimeService
from imagekeep.cri.sockets import Access, exclusive_socket, grant, private
from imagekeep.cri.watcher_thread import OtherWatcher
from imagekeep.errors import FailedPreconditionError, ImagekeepError, NewerSchemaError, printable
from imagekeep.paths import grpc_address
from imagekeep.reader_internals import require_current_schema
from imagekeep.systemd import notify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from imagekeep.cri.handlers import Observe
    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.cri.watcher_thread import WatcherReport, WatcherThread
    from imagekeep.reader import Reader

log = logging.getLogger("imagekeep.cri")

RECEIVED_BYTES_MAX: Final = 512 << 10
"""Maximum size of a request: names, credentials, and annotations, which Kubernetes limits to 256 KiB."""

CONNECTIONS_MAX: Final = 256
"""Maximum connections; further ones are closed when accepted. A node has a handful of CRI clients."""

CONNECTIONS_MIN: Final = 16
"""Minimum connections; with fewer descriptors the server does not start."""

DESCRIPTORS: Final = 1024
"""The soft limit of descriptors to set, if the hard limit allows it."""

OTHER_DESCRIPTORS: Final = 128
"""Descriptors for everything but CRI connections: the store's files, containerd, metrics, libraries."""

CALLS_MAX: Final = 1024
"""Maximum concurrent calls; further ones are refused with RESOURCE_EXHAUSTED."""

SENT_BYTES_MAX: Final = 16 << 20
"""Maximum size of a reply, as in containerd, a kubelet and crictl. StreamImages has no total limit."""

SCHEMA_INTERVAL: Final = 5.0
"""Seconds between checks for a store that another release has migrated."""

GRACE: Final = 0.5
"""Seconds for calls to finish when the server stops."""

SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
    ("grpc.max_send_message_length", SENT_BYTES_MAX),
    # Concurrent calls per connection; a client with more waits, without delaying others.
    ("grpc.max_concurrent_streams", 64),
    # Timeout of the HTTP/2 handshake.
    ("grpc.server_handshake_timeout_ms", 5_000),
    # Close the connection of a client that hangs within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # its default of a minute would override the line above
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients reconnect by themselves on their next call.
    ("grpc.max_connection_idle_ms", 300_000),
    # Ask old connections to close, which clients do without losing calls, and close them an hour later. This also
    # ends the calls of a client that answers pings but never reads its replies.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    # Two servers on one path would share its calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class ServerConfig:
    """The configuration of a server.

    `store_factory` opens the store with its source, once per thread that writes; None without a source. `watcher`
    is not started yet; None if the source does not support watching. `cri_socket` is the socket of the source's
    CRI.
    """

    reader: Reader
    path: Path
    access: Access
    mountpoint: str
    store_factory: StoreFactory | None = None
    watcher: WatcherThread | None = None
    cri_socket: str | None = None
    filter_images: bool = False
    observe: Observe = lambda _path, _code, _seconds: None
    background: Callable[[], contextlib.AbstractAsyncContextManager[object]] = contextlib.nullcontext

    @property
    def watcher_report(self) -> WatcherReport:
        """Return the watcher of this process, or of another."""
        return self.watcher or OtherWatcher(self.reader)


async def serve_until_signal(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT; raises as `serve` does."""
    stop = asyncio.Event()

    def end(number: signal.Signals) -> None:
        log.info("stopping: received %s", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await serve(config, stop)


async def serve(config: ServerConfig, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then give calls in flight `GRACE` seconds to finish.

    Answers calls before it contacts the source. Raises as `exclusive_socket` and `grant` do, the error that ended
    the watcher, and NewerSchemaError if another release migrates the store.
    """
    with exclusive_socket(config.path):
        mutations = Mutations(config.store_factory)
        proxy = CriProxy(config.cri_socket) if config.cri_socket is not None else None
        options = (*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", connections_allowed()))
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers(generic_handlers(endpoints(config, mutations, proxy), config.observe))
        server.add_generic_rpc_handlers([RuntimeCalls(config.cri_socket)])
        try:
            _listen(server, config)
            await server.start()
            log.info("serving at %s", printable(config.path))
            if config.watcher is not None:
                config.watcher.begin(asyncio.get_running_loop(), stop)
            async with config.background(), _checking_schema(config, stop):
                notify("READY=1")
                await stop.wait()
                notify("STOPPING=1")
        finally:
            await _end(server, mutations, proxy, config.watcher)
    if config.watcher is not None and config.watcher.error is not None:
        raise config.watcher.error


@contextlib.asynccontextmanager
async def _checking_schema(config: ServerConfig, stop: asyncio.Event) -> AsyncIterator[None]:
    """Set `stop` and raise NewerSchemaError when the schema changes; a watcher does so itself."""
    found: list[NewerSchemaError] = []

    async def check() -> None:
        while config.watcher is None and not found:
            await asyncio.sleep(SCHEMA_INTERVAL)
            try:
                require_current_schema(config.reader)
            except NewerSchemaError as error:
                found.append(error)
                stop.set()
            except ImagekeepError:
                continue  # calls report it

    task = asyncio.create_task(check())
    try:
        yield
    finally:
        task.cancel()
    if found:
        raise found[0]


def connections_allowed() -> int:
    """Raise the soft limit of descriptors and return how many connections it allows.

    Raises FailedPreconditionError if it allows fewer than CONNECTIONS_MIN.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = DESCRIPTORS if hard == unlimited else min(DESCRIPTORS, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    allowed = CONNECTIONS_MAX if soft == unlimited else min(CONNECTIONS_MAX, soft - OTHER_DESCRIPTORS)
    if allowed < CONNECTIONS_MIN:
        raise FailedPreconditionError(
            f"too few file descriptors: limit is {soft}, must be at least {OTHER_DESCRIPTORS + CONNECTIONS_MIN} "
            "(raise `ulimit -n` or LimitNOFILE=)"
        )
    return allowed


def endpoints(config: ServerConfig, mutations: Mutations, proxy: CriProxy | None) -> list[Endpoint]:
    """Return the endpoint of every method served."""
    images = ImageService(
        config.reader,
        mutations,
        proxy,
        mountpoint=config.mountpoint,
        filter_images=config.filter_images,
    )
    runtime = RuntimeService(config.watcher_report)
    health, reflection = Health(config.reader), Reflection()
    return [
        Endpoint(protocol.LIST_IMAGES, images.list_images),
        Endpoint(protocol.STREAM_IMAGES, images.stream_images),
        Endpoint(protocol.IMAGE_STATUS, images.image_status),
        Endpoint(protocol.PULL_IMAGE, images.pull_image),
        Endpoint(protocol.REMOVE_IMAGE, images.remove_image),
        Endpoint(protocol.IMAGE_FS_INFO, images.image_fs_info),
        Endpoint(protocol.VERSION, runtime.version),
        Endpoint(protocol.STATUS, runtime.status),
        Endpoint(CHECK, health.check),
        *(Endpoint(method, reflection.answer, converses=True) for method in REFLECT),
    ]


def _listen(server: Any, config: ServerConfig) -> None:
    """Bind the socket, private to this user until its group and mode are set."""
    with private():
        try:
            server.add_insecure_port(grpc_address(config.path))
        except RuntimeError as error:
            raise FailedPreconditionError(f"cannot serve at {printable(config.path)}: {error}") from error
    grant(config.path, config.access)


async def _end(
    server: Any, mutations: Mutations, proxy: CriProxy | None, watcher: WatcherThread | None
) -> None:
    """End the calls, then the threads, and cancel their calls to the source."""
    if watcher is not None:
        watcher.stop()
    await server.stop(GRACE)
    if proxy is not None:
        await proxy.close()
    await asyncio.to_thread(mutations.close)
    if watcher is not None and watcher.is_alive():
        await asyncio.to_thread(watcher.join)
