"""Connects gRPC calls to the functions that answer them, limits their time and memory, and counts them.

Every call is handled as a stream of requests, even if it has only one, because only then can a call be ended
whose request never arrives. A handler cannot end a call whose reply is never read: the call lasts until its
connection reaches its maximum age (server), and its reply counts against a budget.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import grpc
import grpc.aio

from imagekeep.errors import AmbiguousError, Category, ImagekeepError, InvalidArgumentError
from imagekeep.protobuf import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imagekeep.protobuf import Message, Method

Code: TypeAlias = grpc.StatusCode


class RpcError(Exception):
    """Ends a call with this code and message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


CODES: Final[Mapping[Category, Code]] = {
    Category.NOT_FOUND: Code.NOT_FOUND,
    Category.INVALID_ARGUMENT: Code.INVALID_ARGUMENT,
    Category.AMBIGUOUS: Code.UNKNOWN,
    Category.FAILED_PRECONDITION: Code.FAILED_PRECONDITION,
    Category.PERMISSION_DENIED: Code.PERMISSION_DENIED,
    Category.UNAVAILABLE: Code.UNAVAILABLE,
    Category.CORRUPT: Code.DATA_LOSS,
}
"""The code of each category; containerd sends UNKNOWN for errors outside errdefs."""


def rpc_error_of(error: ImagekeepError) -> RpcError:
    """Return the RPC error for an ImagekeepError, whose message never quotes a config."""
    return RpcError(CODES[error.category], str(error))


def unresolved(name: str, error: ImagekeepError) -> RpcError:
    """Return the RPC error for a name that cannot be resolved (containerd: ImageStatus, RemoveImage).

    A truncated id of several images is ambiguous, and so is the empty name. (containerd resolves the empty name
    if it has only one image; imagekeep never does.)
    """
    if isinstance(error, AmbiguousError) or (not name and isinstance(error, InvalidArgumentError)):
        return RpcError(Code.UNKNOWN, f'can not resolve "{name}" locally: ambiguous digest string')
    return rpc_error_of(error)


RECEIVE_TIMEOUT: Final = 10.0
"""Seconds for a client to send a request."""

REPLIES_BYTES_MAX: Final = 256 << 20
"""Maximum bytes of large replies in flight: 60 lists of 12,000 images."""

SMALL_REPLY_BYTES: Final = 64 << 10
"""Maximum size of a reply that is not counted: a list of 200 images."""


class Call(Protocol):
    """The part of a call's context that handlers use."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline, or None if it has none."""
        ...


class Replies:
    """A budget for the bytes of large replies in flight.

    gRPC holds a reply until its client reads it, without a limit of its own. A reply over the budget is refused,
    because waiting would hold it too. Small replies are limited by the number of calls.
    """

    def __init__(self, bytes_max: int = REPLIES_BYTES_MAX) -> None:
        self._free = bytes_max

    def reserve(self, size: int) -> Callable[[], None]:
        """Reserve bytes and return the function that releases them; raises RpcError if too few are free."""
        if size <= SMALL_REPLY_BYTES:
            return lambda: None
        if size > self._free:
            message = "too many large replies are waiting for clients to read them; try again"
            raise RpcError(Code.RESOURCE_EXHAUSTED, message)
        self._free -= size

        def release() -> None:
            self._free += size

        return release


AnswerOne = Callable[[Any, Call], Awaitable[Any]]
AnswerMany = Callable[[Any, Call], Awaitable[Sequence[Any]]]
Observe = Callable[[str, str, float], None]
"""Called with a method's path, the name of the code, and the call's seconds."""


class Endpoint(NamedTuple):
    """A method and the function that answers it, with one reply or, if the method streams, many.

    If `converses` is set, the same call can send further requests.
    """

    method: Method[Any, Any]
    answer: AnswerOne | AnswerMany
    converses: bool = False


def generic_handlers(endpoints: Iterable[Endpoint], observe: Observe) -> list[Any]:
    """Return gRPC's handlers for these endpoints, one per service."""
    services: dict[str, dict[str, Any]] = {}
    replies = Replies()
    for endpoint in endpoints:
        _, service, name = endpoint.method.path.split("/")
        # gRPC sends a single reply and the call's code together.
        many = endpoint.method.streams
        make: Any = grpc.stream_stream_rpc_method_handler if many else grpc.stream_unary_rpc_method_handler
        services.setdefault(service, {})[name] = make(_behaviour(endpoint, observe, replies))
    return [grpc.method_handlers_generic_handler(*service) for service in services.items()]


def _behaviour(
    endpoint: Endpoint, observe: Observe, replies: Replies
) -> Callable[[Any, Any], Awaitable[bytes | None]]:
    """Return the function that gRPC calls with a call's requests and context."""
    answer_call = _answer_with_many if endpoint.method.streams else _answer_with_one

    async def behave(_requests: Any, context: Any) -> bytes | None:
        """Answer one call and observe it; requests are read from the context, which supports timeouts."""
        began, code = time.perf_counter(), Code.CANCELLED
        try:
            reply = await answer_call(endpoint, context, replies)
            code = Code.OK
        except (RpcError, ImagekeepError) as error:
            refusal = error if isinstance(error, RpcError) else rpc_error_of(error)
            code = refusal.code
            await context.abort(code, refusal.message)
            return None  # not reached: abort raises
        except Exception:
            code = Code.UNKNOWN
            raise
        else:
            return reply
        finally:
            observe(endpoint.method.path, code.name, time.perf_counter() - began)

    return behave


async def _answer_with_one(endpoint: Endpoint, context: Any, replies: Replies) -> bytes:
    """Return the reply to one request; it counts against the budget until the call is done."""
    answer: Any = endpoint.answer
    encoded = _encode(await answer(await _receive_first(endpoint.method, context), context))
    if len(encoded) > SMALL_REPLY_BYTES:
        release = replies.reserve(len(encoded))
        context.add_done_callback(lambda _: release())
    return encoded


async def _answer_with_many(endpoint: Endpoint, context: Any, replies: Replies) -> None:
    """Write the replies to one request, or to several if the endpoint converses."""
    answer: Any = endpoint.answer
    request: Message | None = await _receive_first(endpoint.method, context)
    while request is not None:
        encoded = [_encode(message) for message in await answer(request, context)]
        # All of them, because a client that stops reading keeps the rest in memory.
        release = replies.reserve(sum(map(len, encoded)))
        try:
            for message in encoded:
                await context.write(message)
        finally:
            release()
        request = await _receive(endpoint.method, context) if endpoint.converses else None


async def _receive_first(method: Method[Any, Any], context: Any) -> Message:
    request = await _receive(method, context)
    if request is None:
        raise RpcError(Code.INTERNAL, "the call ended without a request")
    return request


async def _receive(method: Method[Any, Any], context: Any) -> Message | None:
    """Return a call's next request, or None at the end; raises RpcError if it is late or invalid."""
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            encoded = await context.read()
    except TimeoutError:
        message = f"the request did not arrive within {RECEIVE_TIMEOUT:g} s"
        raise RpcError(Code.DEADLINE_EXCEEDED, message) from None
    if encoded is grpc.aio.EOF:
        return None
    try:
        return decode(method.request, encoded)
    except ValueError:
        raise RpcError(Code.INTERNAL, "the request is not a message of this method") from None


def _encode(reply: Message | bytes) -> bytes:
    """Return a reply's bytes; cached replies are encoded already."""
    return reply if isinstance(reply, bytes) else reply.SerializeToString()
