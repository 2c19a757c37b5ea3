"""Answers the requests of Prometheus: a GET of /metrics, over HTTP on loopback or a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.cri.sockets import Access, exclusive_socket, grant, parse_address, private
from imagekeep.errors import FailedPreconditionError, InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HEAD_BYTES_MAX: Final = 8192
CLIENT_TIMEOUT: Final = 5.0
"""Seconds that a client has to send its request, and to take the answer."""

CLIENTS_MAX: Final = 16


class Loopback(NamedTuple):
    """An address of this machine that no other can reach."""

    host: str
    port: int


def parse_target(target: str) -> Loopback | Path:
    """Return where to answer: `127.0.0.1:PORT`, `[::1]:PORT`, or a socket as `parse_address` takes it.

    Raises InvalidArgumentError; for addresses of the network too, because nothing here asks who is asking.
    """
    if target.startswith(("unix:", "/")):
        return parse_address(target)
    host, _, port = target.rpartition(":")
    with contextlib.suppress(ValueError):  # of what is neither an address nor a number: refused below
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if address.is_loopback and 0 <= int(port) < 65536:
            return Loopback(str(address), int(port))
    raise InvalidArgumentError(
        f"{printable(target)} is no address for metrics; give 127.0.0.1:PORT or unix:///PATH"
    )


@contextlib.asynccontextmanager
async def scraping(
    target: Loopback | Path, access: Access, page: Callable[[], bytes], content_type: str
) -> AsyncIterator[asyncio.Server]:
    """Answer with `page()` until the context ends; raises as `exclusive_socket` does."""
    room = asyncio.Semaphore(CLIENTS_MAX)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client; who asks too slowly, too much or not at all is hung up on."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.close)
            await stack.enter_async_context(room)
            with contextlib.suppress(
                OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
            ):
                async with asyncio.timeout(CLIENT_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(response(head, page, content_type))
                    await writer.drain()

    with contextlib.ExitStack() as held:
        async with await _listen(target, access, answer, held) as server:
            yield server


async def _listen(
    target: Loopback | Path,
    access: Access,
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    held: contextlib.ExitStack,
) -> asyncio.Server:
    """Begin to answer at an address; what holds a socket's path is released by `held`."""
    if isinstance(target, Loopback):
        try:
            return await asyncio.start_server(answer, *target, limit=HEAD_BYTES_MAX)
        except OSError as error:
            # asyncio puts words of its own before the system's.
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise FailedPreconditionError(f"no metrics at {target.host}:{target.port}: {reason}") from error
    held.enter_context(exclusive_socket(target))
    with private():
        server = await asyncio.start_unix_server(answer, target, limit=HEAD_BYTES_MAX)
    grant(target, access)
    return server


def response(head: bytes, page: Callable[[], bytes], content_type: str) -> bytes:
    """Return the answer to an HTTP request that begins with `head`."""
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET":
        return _message("405 Method Not Allowed", "text/plain", b"GET it\n")
    if path != b"/metrics":
        return _message("404 Not Found", "text/plain", b"see /metrics\n")
    return _message("200 OK", content_type, page())


def _message(status: str, content_type: str, body: bytes) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
