"""Serves the CRI until it is told to stop.

One event loop answers. Its bounds keep one client from stopping another: each connection has so many calls at
once, each message has a largest size, a connection that begins nothing or answers no ping is closed, and a call
whose client does nothing is ended (handlers).
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
from imagekeep.cri.cri_proxy import Relay
from imagekeep.cri.handlers import Endpoint, generic_handlers
from imagekeep.cri.images import ImageService
from imagekeep.cri.mutations import Changes
from imagekeep.cri.server_info import CHECK, REFLECT, Health, Reflection, RuntimeService
from imagekeep.cri.sockets import Access, exclusive_socket, grant, private
from imagekeep.cri.watcher_thread import OtherWatcher
from imagekeep.errors import FailedPreconditionError, printable
from imagekeep.paths import grpc_address
from imagekeep.systemd import notify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagekeep.cri.handlers import Observe
    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.cri.watcher_thread import Following, WatcherThread
    from imagekeep.reader import Reader

log = logging.getLogger("imagekeep.cri")

RECEIVED_BYTES_MAX: Final = 512 << 10
"""The largest request: names, credentials, and a sandbox's annotations, which Kubernetes ends at 256 KiB."""

CONNECTIONS_MAX: Final = 256
"""Connections at once; one more is closed as soon as it is accepted. A node has a handful of CRI clients."""

CONNECTIONS_MIN: Final = 16

DESCRIPTORS: Final = 1024
"""Descriptors that the soft limit is raised to, if the hard limit allows it."""

OTHER_DESCRIPTORS: Final = 128
"""Descriptors for everything but connections of the CRI: the store's files, containerd, metrics, libraries."""

CALLS_MAX: Final = 1024
"""Calls at once over all connections; one more is refused with RESOURCE_EXHAUSTED."""

SENT_BYTES_MAX: Final = 16 << 20
"""The largest reply, as containerd's; a kubelet and crictl take no more. StreamImages has no such end."""

GRACE: Final = 0.5
"""Seconds that calls have to end once the server is told to."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
    ("grpc.max_send_message_length", SENT_BYTES_MAX),
    # Calls of one connection at once; a client that wants more of them waits, and others do not.
    ("grpc.max_concurrent_streams", 64),
    # One that connects has this long to say that it speaks HTTP/2.
    ("grpc.server_handshake_timeout_ms", 5_000),
    # A client that hangs answers no ping, and its connection is closed: 15 s later at most.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # without it a ping has a minute, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients connect again by themselves with their next call.
    ("grpc.max_connection_idle_ms", 300_000),
    # An old connection is asked to go, which clients do without losing a call, and is closed an hour later. So ends
    # also what a client that answers pings, and takes no reply, keeps waiting.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    # Two servers on one path would each get some of the calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class ServerConfig:
    """What is served, and how.

    `store_factory` opens the store with its source, once for each thread that changes something; None is a server
    without a source. `watcher` is not started yet; None is a source that does not support watching. `cri_socket` is
    where the source's own CRI answers.
    """

    reader: Reader
    path: Path
    access: Access
    mountpoint: str
    store_factory: StoreFactory | None = None
    watcher: WatcherThread | None = None
    cri_socket: str | None = None
    filter_images: bool = False
    observe: Observe = lambda path, code, seconds: None
    beside: Callable[[], contextlib.AbstractAsyncContextManager[object]] = contextlib.nullcontext

    @property
    def following(self) -> Following:
        """Who follows the source: this process, or perhaps another."""
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
    """Serve until `stop` is set; whatever is under way then has `GRACE` to end.

    The first call is answered before anything is asked of the source. Raises the errors of `exclusive_socket` and
    `grant`, and the error with which following the source ended, where it cannot go on.
    """
    with exclusive_socket(config.path):
        changes = Changes(config.store_factory)
        relay = Relay(config.cri_socket) if config.cri_socket is not None else None
        options = (*_OPTIONS, ("grpc.max_allowed_incoming_connections", connections_allowed()))
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers(generic_handlers(endpoints(config, changes, relay), config.observe))
        try:
            _listen(server, config)
            await server.start()
            log.info("serving at %s", printable(config.path))
            if config.watcher is not None:
                config.watcher.begin(asyncio.get_running_loop(), stop)
            async with config.beside():
                notify("READY=1")
                await stop.wait()
                notify("STOPPING=1")
        finally:
            await _end(server, changes, relay, config.watcher)
    if config.watcher is not None and config.watcher.error is not None:
        raise config.watcher.error


def connections_allowed() -> int:
    """Raise the soft limit of descriptors, and return how many connections it leaves room for.

    Raises FailedPreconditionError if it leaves hardly any.
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
            f"at most {soft} files can be open: serving needs {OTHER_DESCRIPTORS + CONNECTIONS_MIN} "
            "(raise `ulimit -n` or LimitNOFILE=)"
        )
    return allowed


def endpoints(config: ServerConfig, changes: Changes, relay: Relay | None) -> list[Endpoint]:
    """Return everything that is answered, and by what."""
    images = ImageService(
        config.reader,
        changes,
        relay,
        mountpoint=config.mountpoint,
        filter_images=config.filter_images,
    )
    runtime = RuntimeService(config.following)
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
    """Bind the socket, this user's alone until its group and mode are set."""
    with private():
        try:
            server.add_insecure_port(grpc_address(config.path))
        except RuntimeError as error:
            raise FailedPreconditionError(f"cannot serve at {printable(config.path)}: {error}") from error
    grant(config.path, config.access)


async def _end(server: Any, changes: Changes, relay: Relay | None, watcher: WatcherThread | None) -> None:
    """End the calls, then the threads, whose own calls to the source are cancelled."""
    if watcher is not None:
        watcher.stop()
    await server.stop(GRACE)
    if relay is not None:
        await relay.close()
    await asyncio.to_thread(changes.close)
    if watcher is not None and watcher.is_alive():
        await asyncio.to_thread(watcher.join)
