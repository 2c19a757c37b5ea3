"""What tools ask a gRPC server about itself: whether it is well, and what services it has.

`grpc_health_probe` uses the first (grpc.health.v1), `grpcurl` the second (grpc.reflection.v1 and v1alpha). Both are
declared here, as the packages that bring them demand the newest protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from imagekeep.cri.status import Code, RpcError
from imagekeep.errors import ImagekeepError
from imagekeep.protobuf import Schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from imagekeep.cri.handlers import Call
    from imagekeep.protobuf import Message
    from imagekeep.reader import Reader

HEALTH: Final = Schema("""
package grpc.health.v1;

message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { int32 status = 1; }  // an enumeration there, the same on the wire
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
""")

_REFLECTION_TEXT: Final = """
package grpc.reflection.VERSION;

// The fields of the request are one of several there. As lists they are the same on the wire, and tell one that is
// empty from one that is absent.
message ServerReflectionRequest {
    string host = 1;
    repeated string file_by_filename = 3;
    repeated string file_containing_symbol = 4;
    repeated string list_services = 7;
}
message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
message ServiceResponse { string name = 1; }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message ErrorResponse { int32 error_code = 1; string error_message = 2; }
message ServerReflectionResponse {
    string valid_host = 1;
    ServerReflectionRequest original_request = 2;
    FileDescriptorResponse file_descriptor_response = 4;
    ListServiceResponse list_services_response = 6;
    ErrorResponse error_response = 7;
}
service ServerReflection {
    rpc ServerReflectionInfo(ServerReflectionRequest) returns (stream ServerReflectionResponse);
}
"""
REFLECTION: Final = tuple(
    Schema(_REFLECTION_TEXT.replace("VERSION", version)) for version in ("v1", "v1alpha")
)

CHECK: Final = HEALTH.methods["/grpc.health.v1.Health/Check"]
SERVING: Final = 1
NOT_SERVING: Final = 2


class Health:
    """Says whether the server can answer: SERVING while its store can be read."""

    def __init__(self, reader: Reader, services: Sequence[str]) -> None:
        self._reader = reader
        self._services = {"", *services}

    async def check(self, request: Message, call: Call) -> Message:
        """Answer Check, of the server as a whole or of one service; NOT_FOUND for services that are not here."""
        if request.service not in self._services:
            raise RpcError(Code.NOT_FOUND, "unknown service")
        try:
            self._reader.watcher()
        except ImagekeepError:
            return CHECK.response(status=NOT_SERVING)
        return CHECK.response(status=SERVING)


class Reflection:
    """Describes the services of these schemas, in one version of the protocol."""

    def __init__(self, protocol: Schema, schemas: Sequence[Schema]) -> None:
        (self.method,) = protocol.methods.values()
        self._files = {file.name: file.SerializeToString() for schema in schemas for file in files_of(schema)}
        self._file_names = {
            symbol: file.name
            for schema in schemas
            for file in files_of(schema)
            for symbol in symbols_of(file)
        }
        self._services = sorted({service_of(path) for schema in schemas for path in schema.methods})

    async def answer(self, request: Message, call: Call) -> AsyncIterator[Message]:
        """Answer one question; each may be of another kind."""
        yield self._described(request)

    def _described(self, request: Message) -> Message:
        reply = self.method.response(valid_host=request.host, original_request=request)
        if request.list_services:
            for name in self._services:
                reply.list_services_response.service.add(name=name)
            return reply
        names = [*request.file_by_filename, *map(self._file_names.get, request.file_containing_symbol)]
        found = [self._files[name] for name in names if name in self._files]
        if found:
            reply.file_descriptor_response.file_descriptor_proto.extend(found)
        else:
            reply.error_response.error_code = Code.NOT_FOUND.value[0]
            reply.error_response.error_message = "nothing of that name is declared here"
        return reply


def files_of(schema: Schema) -> list[Any]:
    """Return the files that a schema's messages and services would stand in, as protobuf describes files."""
    files: dict[str, Any] = {}
    for message in schema.messages.values():
        described = message.DESCRIPTOR.file
        if described.name not in files:
            files[described.name] = FileDescriptorProto()
            described.CopyToProto(files[described.name])
    services: dict[str, Any] = {}
    for path, method in schema.methods.items():
        name = service_of(path)
        package, _, short_name = name.rpartition(".")
        service = services.get(name) or files[f"{package}.proto"].service.add(name=short_name)
        services[name] = service
        service.method.add(
            name=path.rpartition("/")[2],
            input_type=f".{method.request.DESCRIPTOR.full_name}",
            output_type=f".{method.response.DESCRIPTOR.full_name}",
            server_streaming=method.streams,
        )
    return list(files.values())


def symbols_of(file: Any) -> list[str]:
    """Return the full names of what a file declares."""
    services = [f"{file.package}.{service.name}" for service in file.service]
    methods = [f"{file.package}.{each.name}.{method.name}" for each in file.service for method in each.method]
    return [f"{file.package}.{message.name}" for message in file.message_type] + services + methods


def service_of(path: str) -> str:
    """Return the full name of the service in a method's path."""
    return path.split("/")[1]
