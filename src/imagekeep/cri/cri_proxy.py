"""Forwards calls to containerd's CRI on the source's socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from imagekeep.cri.handlers import RpcError
from imagekeep.paths import full_path, grpc_address

if TYPE_CHECKING:
    from imagekeep.protobuf import Method, Reply, Request
    from imagekeep.sources.protocol import Source

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
)


class CriProxy:
    """A client of the containerd at `socket`, which connects on the first call."""

    def __init__(self, socket: str) -> None:
        self._socket = full_path(socket)
        self._channel: Any = None

    async def ask(
        self,
        method: Method[Request, Reply],
        request: Request,
        *,
        timeout: float | None,  # noqa: ASYNC109 (the client's deadline, passed on to containerd)
    ) -> Reply:
        """Return containerd's reply; raises containerd's error as an RpcError with the same code and message.

        Cancelling the caller cancels the call at containerd.
        """
        if self._channel is None:
            self._channel = self._open()
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            reply: Reply = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as failure:
            raise RpcError(failure.code(), failure.details() or "") from None
        return reply

    def _open(self) -> Any:
        # Imported here because the server answers from the store before it needs its source.
        from imagekeep.sources.containerd.connection import CHANNEL_OPTIONS

        return grpc.aio.insecure_channel(grpc_address(self._socket), options=(*CHANNEL_OPTIONS, *_OPTIONS))

    async def close(self) -> None:
        """Cancel the calls in flight."""
        if self._channel is not None:
            await self._channel.close()


def cri_socket_of(source: Source) -> str | None:
    """Return the socket of the source's CRI, or None if it has none.

    containerd's CRI uses one namespace; pulls through it would not appear in a store of another.
    """
    from imagekeep.sources.containerd import DEFAULT_NAMESPACE, Containerd

    if isinstance(source, Containerd) and source.namespace == DEFAULT_NAMESPACE:
        return source.socket
    return None
