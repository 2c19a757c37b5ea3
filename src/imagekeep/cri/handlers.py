"""Joins gRPC's calls with the functions that answer them: bounded in time, and counted.

Every call is taken as a stream of its own, also where there is one request and one reply: only so can a client
that begins a call and never sends the request be let go of after a while. One that never takes its reply keeps
that waiting, and nobody else, until its connection has come of age (server): gRPC lets no handler end such a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import grpc.aio

from imagekeep.cri.status import Code, RpcError, rpc_error_of
from imagekeep.errors import ImagekeepError
from imagekeep.protobuf import decode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.protobuf import Message, Method

RECEIVE_TIMEOUT: Final = 10.0
"""Seconds that a client has to send the request of a call that it began."""


class Call(Protocol):
    """What an answer may ask of the call that it answers."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the client gives up, or None where it never does."""
        ...


One = Callable[[Any, Call], Awaitable[Any]]
Many = Callable[[Any, Call], AsyncIterator[Any]]
Observe = Callable[[str, str, float], None]
"""Takes a method's path, the name of a code, and how many seconds the call took."""


class Endpoint(NamedTuple):
    """A method, and the function that answers it: with one reply, or with many where the method streams.

    One that `converses` is asked again on the same call, until the client has no more questions.
    """

    method: Method[Any, Any]
    answer: One | Many
    converses: bool = False


def generic_handlers(endpoints: Iterable[Endpoint], observe: Observe) -> list[Any]:
    """Return gRPC's handlers of these endpoints, one a service."""
    services: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        _, service, name = endpoint.method.path.split("/")
        # Where there is one reply, gRPC sends it and the code of the call together.
        many = endpoint.method.streams
        make: Any = grpc.stream_stream_rpc_method_handler if many else grpc.stream_unary_rpc_method_handler
        handler = make(_behaviour(endpoint, observe), response_serializer=_encode)
        services.setdefault(service, {})[name] = handler
    return [grpc.method_handlers_generic_handler(*service) for service in services.items()]


def _behaviour(endpoint: Endpoint, observe: Observe) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return what gRPC calls with the stream of requests and the context of a call."""

    async def behave(requests: Any, context: Any) -> Any:
        """Answer one call, and observe how it ended; requests are read from the context, which can wait."""
        began, code = time.perf_counter(), Code.CANCELLED
        try:
            reply = await _answer(endpoint, context)
            code = Code.OK
        except RpcError as refusal:
            code = refusal.code
            await context.abort(code, refusal.message)
        except Exception:
            code = Code.UNKNOWN
            raise
        else:
            return reply
        finally:
            observe(endpoint.method.path, code.name, time.perf_counter() - began)

    return behave


async def _answer(endpoint: Endpoint, context: Any) -> Message | bytes | None:
    """Take the request, and return the reply; where there can be many, write them. Raises Refusal."""
    request = await _receive(endpoint.method, context)
    if request is None:
        raise RpcError(Code.INTERNAL, "the call ended without a request")
    try:
        while request is not None:
            answer = endpoint.answer(request, context)
            if not isinstance(answer, AsyncIterator):
                return await answer
            async for message in answer:
                await context.write(message)
            request = await _receive(endpoint.method, context) if endpoint.converses else None
    except ImagekeepError as error:
        raise rpc_error_of(error) from error
    return None


async def _receive(method: Method[Any, Any], context: Any) -> Message | None:
    """Return the next request of a call, or None where the client sends no more.

    Raises Refusal where none comes in time, or none that can be read.
    """
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            encoded = await context.read()
    except TimeoutError:
        message = f"the request did not come within {RECEIVE_TIMEOUT:g} s"
        raise RpcError(Code.DEADLINE_EXCEEDED, message) from None
    if encoded is grpc.aio.EOF:
        return None
    try:
        return decode(method.request, encoded)
    except ValueError:
        raise RpcError(Code.INTERNAL, "the request is no message of this method") from None


def _encode(reply: Message | bytes) -> bytes:
    """Return a reply's bytes; what is answered often is kept encoded."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()
