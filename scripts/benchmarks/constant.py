"""A bare gRPC server with a constant reply, as an upper bound: `python -m benchmarks.constant SOCKET REPLY`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio

from imagekeep.cri.protocol import IMAGE_STATUS


async def serve(socket: str, reply: bytes) -> None:
    """Answer every ImageStatus with one encoded reply until the process is killed."""

    async def answer(request: bytes, context: object) -> bytes:
        return reply

    _, service, method = IMAGE_STATUS.path.split("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], bytes.fromhex(sys.argv[2])))
