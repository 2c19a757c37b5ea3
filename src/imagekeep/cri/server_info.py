"""Answers calls about the server itself: version, status, health and reflection.

crictl and a kubelet begin with Version and Status. All other calls of `runtime.v1.RuntimeService` are
UNIMPLEMENTED, because imagekeep does not run containers, and the error says where to send them.
`grpc_health_probe` uses grpc.health.v1, and `grpcurl` uses grpc.reflection.v1 or v1alpha.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from imagekeep.cri.handlers import Code, RpcError
from imagekeep.cri.protocol import SCHEMA, STATUS, VERSION, RuntimeCondition
from imagekeep.errors import ImagekeepError, MissingExtraError, printable
from imagekeep.protobuf import Method

try:
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2
except ImportError as missing:
    raise MissingExtraError("grpcio-health-checking or grpcio-reflection", "cri") from missing
from imagekeep.watcher_status import status_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagekeep.cri.handlers import Call
    from imagekeep.cri.watcher_thread import WatcherReport
    from imagekeep.protobuf import cri_pb2 as cri
    from imagekeep.reader import Reader
    from imagekeep.watcher_status import WatcherState

CHECK: Final = Method(
    "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse, False
)
# The two versions differ only in name.
REFLECT: Final = tuple(
    Method(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest,
        reflection_pb2.ServerReflectionResponse,
        True,
    )
    for version in ("v1", "v1alpha")
)

QUESTION_BYTES_MAX: Final = 4096
"""Maximum size of a reflection request; the answer repeats it."""

SERVED: Final = tuple(sorted({method.service for method in SCHEMA.methods.values()}))


class Health:
    """Reports SERVING while the store can be read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def check(
        self, request: health_pb2.HealthCheckRequest, call: Call
    ) -> health_pb2.HealthCheckResponse:
        """Answer Check for the whole server or one service, with NOT_FOUND for an unknown service."""
        if request.service not in ("", *SERVED):
            raise RpcError(Code.NOT_FOUND, "unknown service")
        try:
            self._reader.watcher()
        except ImagekeepError:
            return CHECK.response(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return CHECK.response(status=health_pb2.HealthCheckResponse.SERVING)


class Reflection:
    """Describes the services to clients without `.proto` files."""

    def __init__(self) -> None:
        self._servicer: Any = None

    async def answer(
        self, request: reflection_pb2.ServerReflectionRequest, call: Call
    ) -> list[reflection_pb2.ServerReflectionResponse]:
        """Answer one request, passed to the servicer as a stream of one so that each has its own timeout."""
        if request.ByteSize() > QUESTION_BYTES_MAX:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED, f"a reflection request has at most {QUESTION_BYTES_MAX} bytes"
            )
        if self._servicer is None:
            self._servicer = _servicer()
        answers = self._servicer.ServerReflectionInfo(_only(request), call)
        return [answer async for answer in answers]


def _servicer() -> Any:
    """Return gRPC's own servicer; Any, because its stub declares a coroutine."""
    # Imported here because few clients ask.
    from grpc_reflection.v1alpha.reflection import aio

    return aio.ReflectionServicer((*SERVED, CHECK.service, REFLECT[1].service), pool=_described())


def _described() -> DescriptorPool:
    """Return a pool with the descriptors of every service."""
    pool = DescriptorPool()
    files: dict[str, Any] = {}
    for message in SCHEMA.messages.values():
        files[message.DESCRIPTOR.file.name] = message.DESCRIPTOR.file
    for file in (*files.values(), health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        declared = FileDescriptorProto()
        file.CopyToProto(declared)
        pool.Add(declared)
    return pool


async def _only(
    request: reflection_pb2.ServerReflectionRequest,
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    yield request


KUBELET_API_VERSION: Final = "0.1.0"
"""containerd's value; clients only check that it is set (internal/cri/server/version.go)."""

NAME: Final = "imagekeep"


class RuntimeService:
    """Answers Version and Status."""

    def __init__(self, watcher: WatcherReport) -> None:
        self._watcher = watcher

    async def version(self, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
        """Answer Version."""
        return VERSION.response(
            version=KUBELET_API_VERSION,
            runtime_name=NAME,
            runtime_version=installed_version(),
            runtime_api_version="v1",
        )

    async def status(self, request: cri.StatusRequest, call: Call) -> cri.StatusResponse:
        """Answer Status: runtime and network are not ready; a third condition reports the watcher."""
        watcher = self._watcher.state()
        info = {"watcher": json.dumps(status_row(watcher))} if watcher and request.verbose else {}
        reply = STATUS.response(info=info)
        reply.status.conditions.extend(
            [_images_only("RuntimeReady"), _images_only("NetworkReady"), source_condition(watcher)]
        )
        return reply


class RuntimeCalls(grpc.GenericRpcHandler):
    """Answers the calls that only a container runtime can answer."""

    def __init__(self, runtime: str | None) -> None:
        """`runtime` is the socket of the source's runtime, if there is one."""
        self._endpoint = f"unix://{printable(runtime)}" if runtime else "the runtime's own socket"

    def service(self, handler_call_details: Any) -> Any:
        """Return a handler that ends the call, or None for another service's."""
        service, _, method = handler_call_details.method.rpartition("/")
        if service != f"/{VERSION.service}":
            return None
        message = (
            f"{printable(method)}: imagekeep serves images and does not run containers "
            f"(set the client's runtime endpoint to {self._endpoint}; "
            "`crictl rmi --prune` needs it to find the images in use)"
        )

        async def refuse(_requests: Any, context: Any) -> None:
            await context.abort(Code.UNIMPLEMENTED, message)

        return grpc.stream_stream_rpc_method_handler(refuse)


@functools.cache
def installed_version() -> str:
    """Return imagekeep's version, or `unknown` if it is not installed."""
    # Imported here because it takes 10 ms and 2 MB, most of them for the standard library's email.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"


def source_condition(watcher: WatcherState | None) -> cri.RuntimeCondition:
    """Return the condition SourceFollowed, which imagekeep adds."""
    condition = RuntimeCondition(type="SourceFollowed")
    if watcher is None:
        condition.reason, condition.message = (
            "NoWatcher",
            "no watcher is running; images are as of the last sync",
        )
    elif watcher.connected_at is None:
        condition.reason = "SourceUnavailable"
        condition.message = printable(watcher.last_error or "the source has not answered yet")
    else:
        condition.status = True
    return condition


def _images_only(kind: str) -> cri.RuntimeCondition:
    return RuntimeCondition(
        type=kind, reason="ImagesOnly", message="imagekeep serves images and does not run containers"
    )
