"""Calls one containerd over its socket: sets namespace and timeouts, and translates gRPC's errors.

Every call ends: with an answer, at its timeout, or with one of imagekeep's errors, which names the socket. A
plain connect before the first call finds a socket that is missing or may not be used, because gRPC reports all of
these as "unavailable".
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Self

from imagekeep import forks
from imagekeep.errors import (
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    MissingExtraError,
    NotFoundError,
    PermissionDeniedError,
    SourceFaultError,
    SourceTimeoutError,
    SourceUnavailableError,
    SourceUnsupportedError,
    printable,
)

try:
    import grpc
except ImportError as missing:
    raise MissingExtraError("grpcio", "containerd") from missing

from imagekeep.paths import full_path, grpc_address
from imagekeep.protobuf import Reply, decode
from imagekeep.sources.containerd.budget import FIELDS_MAX, MESSAGES_MAX, is_within_budget

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from imagekeep.protobuf import Method, Request
    from imagekeep.sources.containerd.event_stream import EventStream

RECEIVED_BYTES_MAX: Final = 32 << 20
"""The largest answer accepted: a listing of some 100,000 records.

gRPC's default of 4 MiB would end at 13,000. containerd sends at most 16 MiB unless configured otherwise
(`max_send_message_size`).
"""

TRAILER_BYTES_MAX: Final = 1 << 20
"""The longest error message accepted, percent-encoded as in HTTP/2.

containerd quotes the name that it does not have: four bytes for each of up to 32,768. With gRPC's default of
8 KiB a "not found" for a long name would look like a failure of containerd, and stop every sync.
"""

DETAIL_LENGTH_MAX: Final = 500
"""Maximum length of containerd's own message in an error."""

CONNECT_TIMEOUT: Final = 2.0
"""Seconds to connect; a local socket takes microseconds unless its backlog is full."""

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", RECEIVED_BYTES_MAX),
    ("grpc.max_metadata_size", TRAILER_BYTES_MAX),
    # A connection of our own: its back-off is not made long by others in the process.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC's defaults go from 1 s to 2 minutes; a restarted containerd is back within a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)
"""Options of every channel to containerd."""

_OPTIONS: Final = (
    *CHANNEL_OPTIONS,
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT * 1000)),
)

_KINDS: Final[Mapping[Any, type[ImagekeepError]]] = {
    grpc.StatusCode.CANCELLED: SourceUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: SourceTimeoutError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: SourceUnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: SourceUnsupportedError,
}
"""The error for each gRPC code; the others become SourceFaultError.

containerd answers UNKNOWN for whatever goes wrong on its side, such as a blob that its disk cannot read.
"""


class Connection:
    """Calls methods of the containerd at one socket, in one namespace; the first call opens it.

    Safe to use from several threads and in a forked child, which opens a connection of its own.
    """

    def __init__(self, path: str, namespace: str) -> None:
        self.path = os.fspath(full_path(path))  # a relative one stays that socket after os.chdir
        self._metadata = (("containerd-namespace", namespace),)
        self._closed = False
        self._channel: Any = None
        self._callables: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[EventStream[Any]] = weakref.WeakSet()
        _connections.add(self)

    def call(
        self,
        method: Method[Request, Reply],
        request: Request,
        *,
        timeout: float,
        missing: ImagekeepError | None = None,
    ) -> Reply:
        """Return the answer to a request; `missing` is the error to raise for NOT_FOUND.

        Raises the errors in `_KINDS`, and those of `check_socket` and `decode`.
        """
        try:
            encoded = self._invoke(method, request, timeout)
        except grpc.RpcError as failure:
            raise self.error_of(failure, timeout, missing) from failure
        return self.decode(method, encoded)

    def call_each(
        self, method: Method[Request, Reply], requests: Iterable[Request], *, timeout: float
    ) -> Iterator[Reply | None]:
        """Make all calls at once, in half the time; yield each answer in order, None for NOT_FOUND.

        Raises as `call` does.
        """
        pending = [self._invoke(method, request, timeout, wait=False) for request in requests]
        try:
            for call in pending:
                try:
                    encoded = call.result()
                except grpc.RpcError as failure:
                    if failure.code() is not grpc.StatusCode.NOT_FOUND:
                        raise self.error_of(failure, timeout, None) from failure
                    yield None
                else:
                    yield self.decode(method, encoded)
        finally:
            for call in pending:
                call.cancel()

    def stream(
        self,
        method: Method[Request, Reply],
        request: Request,
        *,
        timeout: float | None,
        missing: ImagekeepError | None = None,
    ) -> Stream[Reply]:
        """Return the stream of answers to a request; raises as `call` does, now or while it is read.

        `timeout` is for the whole stream; None means until it is cancelled.
        """
        return Stream(self, method, self._invoke(method, request, timeout), timeout, missing)

    def decode(self, method: Method[Any, Reply], encoded: bytes) -> Reply:
        """Decode an answer; raises SourceFaultError if it is none, FailedPreconditionError if it is too large."""
        if not is_within_budget(encoded, method.response.DESCRIPTOR):
            raise FailedPreconditionError(
                f"{self}: the answer to {method.path} has more than {MESSAGES_MAX} parts or {FIELDS_MAX} fields, "
                "and is not read"
            )
        try:
            return decode(method.response, encoded)
        except ValueError as failure:
            raise SourceFaultError(f"{self}: the answer to {method.path} is not understood") from failure

    def close(self) -> None:
        """End every call in flight, and accept no more."""
        self._closed = True
        with self._lock:
            if self._channel is not None:
                self._channel.close()
        for stream in list(self._streams):
            stream.cancel()

    def disconnect(self) -> None:
        """Close the channel, and with it gRPC's threads, which wake up while it is idle.

        Calls in flight fail; the next call opens another.
        """
        with self._lock:
            if self._channel is not None and not self._closed:
                self._channel.close()
                self._channel, self._callables = None, {}

    def add_stream(self, stream: EventStream[Any]) -> None:
        """Cancel a stream when this is closed; raises FailedPreconditionError if it is."""
        with self._lock:
            if self._closed:
                raise FailedPreconditionError(f"{self}: the connection was closed")
            self._streams.add(stream)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        return self._metadata

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed

    def forget(self) -> None:
        """Abandon the channel in a forked child: it is the parent's."""
        _inherited.append((self._channel, self._callables))
        self._channel = None
        self._callables = {}
        self._streams = weakref.WeakSet()
        self._lock = threading.Lock()

    def error_of(self, failure: Any, timeout: float | None, missing: ImagekeepError | None) -> ImagekeepError:
        """Return the error for a failed call; raises it instead if the socket shows a better one."""
        code = failure.code()
        if code is grpc.StatusCode.NOT_FOUND and missing is not None:
            return missing
        if code is grpc.StatusCode.UNAVAILABLE and not self._closed:
            check_socket(self.path)
        # The message ends with containerd's reason, after the paths of a blob and its directory.
        detail = printable(failure.details() or code.name, DETAIL_LENGTH_MAX)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            detail = f"no answer within {timeout:g} s"
        return _KINDS.get(code, SourceFaultError)(f"{self}: {detail}")

    def __str__(self) -> str:
        return f"containerd at {printable(self.path)}"

    def _invoke(
        self, method: Method[Request, Reply], request: Request, timeout: float | None, *, wait: bool = True
    ) -> Any:
        """Start a call; raises FailedPreconditionError if the connection was closed."""
        try:
            made = self._callable(method)
            start = made if wait else made.future
            return start(request, timeout=timeout, metadata=self._metadata)
        except ValueError as failure:
            if not self._closed:
                raise
            raise FailedPreconditionError(f"{self}: the connection was closed") from failure

    def _callable(self, method: Method[Any, Any]) -> Any:
        """Return the callable of a method, opening the channel if necessary."""
        with self._lock:
            if self._closed:
                raise FailedPreconditionError(f"{self}: the connection was closed")
            if self._channel is None:
                check_socket(self.path)
                self._channel = grpc.insecure_channel(grpc_address(self.path), options=_OPTIONS)
            if method.path not in self._callables:
                make = self._channel.unary_stream if method.streams else self._channel.unary_unary
                self._callables[method.path] = make(
                    method.path,
                    # Answers stay bytes: gRPC would log what fails to decode, and tell nothing of it.
                    request_serializer=method.request.SerializeToString,
                )
            return self._callables[method.path]


class Stream(Generic[Reply]):
    """Iterates over the answers of a call; ended by `cancel`, from any thread, or by closing the connection."""

    def __init__(
        self,
        connection: Connection,
        method: Method[Any, Reply],
        answers: Any,
        timeout: float | None,
        missing: ImagekeepError | None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._answers = answers
        self._timeout = timeout
        self._missing = missing
        self._cancelled = False

    def cancel(self) -> None:
        """End the stream, also for a thread that waits for the next answer."""
        self._cancelled = True
        self._answers.cancel()

    def __iter__(self) -> Iterator[Reply]:
        return self

    def __next__(self) -> Reply:
        try:
            encoded = next(self._answers)
        except grpc.RpcError as failure:
            if self._cancelled or self._connection.closed:
                raise StopIteration from None
            raise self._connection.error_of(failure, self._timeout, self._missing) from failure
        return self._connection.decode(self._method, encoded)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def check_socket(path: str) -> None:
    """Connect to a socket and disconnect, to find out what is wrong with it.

    Raises SourceUnavailableError if it is missing or nothing listens, PermissionDeniedError, and
    InvalidArgumentError if the path is not a socket or cannot be one.
    """
    connect(path).close()


def connect(path: str) -> socket.socket:
    """Return a connection to a socket; raises as `check_socket` does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(path)
    except (OSError, ValueError) as failure:  # UnicodeError is a ValueError
        connection.close()
        raise _connect_error(path, failure) from failure
    return connection


def _connect_error(path: str, failure: OSError | ValueError) -> ImagekeepError:
    """Return the error for a failed connect(2)."""
    match failure:
        case PermissionError():
            return PermissionDeniedError(
                f"permission denied: {printable(path)} (run as root or join its group)"
            )
        case FileNotFoundError():
            return SourceUnavailableError(f"no socket at {printable(path)} (is containerd running?)")
        case TimeoutError():
            return SourceTimeoutError(f"{printable(path)}: connection timed out after {CONNECT_TIMEOUT:g} s")
        case OSError():
            return _unusable(path, failure)
        case _:
            return InvalidArgumentError(f"invalid socket path {printable(path)}: {failure}")


def _unusable(path: str, failure: OSError) -> ImagekeepError:
    """Return the error for a socket that refuses connections, or for a path that is not one."""
    if failure.errno is None:
        return InvalidArgumentError(f"invalid socket path {printable(path)}: {failure}")
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - a path as text, as it was given
    except OSError:
        is_socket = False
    if not is_socket:
        return InvalidArgumentError(f"{printable(path)} is not a socket")
    return SourceUnavailableError(f"nothing listens at {printable(path)}: {failure.strerror}")


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork(_prepared: bool) -> None:
    """Let connections of a forked child open channels of their own."""
    for connection in _connections:
        connection.forget()


forks.register(after_in_child=_after_fork)
