"""gRPC health over TCP, for clients that cannot reach the socket, such as a kubelet's probes of a pod."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import grpc.aio

from imagekeep.cri.addresses import cannot_serve
from imagekeep.cri.handlers import Endpoint, generic_handlers
from imagekeep.cri.server import GRACE, SERVER_OPTIONS
from imagekeep.cri.server_info import CHECK, Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagekeep.cri.addresses import TcpAddress
    from imagekeep.reader import Reader

CONNECTIONS_MAX: Final = 16

CALLS_MAX: Final = 64


@contextlib.asynccontextmanager
async def serving_health(address: TcpAddress, reader: Reader) -> AsyncIterator[None]:
    """Answer Check of grpc.health.v1 within this context; raises FailedPreconditionError if it cannot be bound."""
    options = (*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", CONNECTIONS_MAX))
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=CALLS_MAX)
    endpoints = [Endpoint(CHECK, Health(reader).check)]
    server.add_generic_rpc_handlers(generic_handlers(endpoints, lambda _path, _code, _seconds: None))
    try:
        server.add_insecure_port(str(address))
    except RuntimeError as error:
        raise cannot_serve("health", address, OSError(str(error))) from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE)
