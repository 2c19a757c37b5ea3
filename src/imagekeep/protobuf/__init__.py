"""Loads the messages and gRPC methods of the protocols that imagekeep speaks.

The `.proto` files beside this module declare only the messages and fields that are used: protobuf skips what is not
declared, and keeps it when a message is forwarded. `scripts/compile-protos` has protoc make two things of them:
a descriptor set for each protocol (`*.binpb`), which a `Schema` loads at run time, and stubs for the type checker
(`*_pb2.pyi`), which have no module at run time.

protoc's Python modules are not used, because they register in the one descriptor pool of the process. A program
that imports imagekeep and has bindings of its own for containerd or the CRI would then fail on the second
declaration of `runtime.v1.Image`. A schema has a pool of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from imagekeep.errors import MissingExtraError

try:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass
except ImportError as missing:
    raise MissingExtraError("protobuf", "containerd") from missing

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message as AnyMessage

Message = Any
"""A message of no particular type."""

Request = TypeVar("Request", bound="AnyMessage")
Reply = TypeVar("Reply", bound="AnyMessage")

_DIRECTORY: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Reply]):
    """A gRPC method: its path, its message classes, and whether it answers with a stream."""

    path: str
    request: type[Request]
    response: type[Reply]
    streams: bool

    @property
    def service(self) -> str:
        """The full name of the method's service."""
        return self.path.split("/")[1]


class Schema:
    """The messages by full name, and the methods by path, of a descriptor set."""

    def __init__(self, encoded: bytes) -> None:
        """Load a serialized FileDescriptorSet whose files are in order of dependency, as protoc writes it."""
        self.pool = DescriptorPool()
        self.messages: dict[str, type[Message]] = {}
        self.methods: dict[str, Method[Any, Any]] = {}
        files = FileDescriptorSet.FromString(encoded).file
        for declared in files:
            self.pool.AddSerializedFile(declared.SerializeToString())
        for file in [self.pool.FindFileByName(declared.name) for declared in files]:
            for message in file.message_types_by_name.values():
                self.messages[message.full_name] = GetMessageClass(message)
            for service in file.services_by_name.values():
                for method in service.methods:
                    path = f"/{service.full_name}/{method.name}"
                    self.methods[path] = self._method(path, method)

    @classmethod
    def load(cls, protocol: str) -> Schema:
        """Load a protocol's descriptor set from this package."""
        return cls((_DIRECTORY / f"{protocol}.binpb").read_bytes())

    def _method(self, path: str, method: MethodDescriptor) -> Method[Any, Any]:
        request = self.messages[method.input_type.full_name]
        response = self.messages[method.output_type.full_name]
        return Method(path, request, response, bool(method.server_streaming))


def decode(kind: type[Reply], encoded: bytes) -> Reply:
    """Decode a message; raises ValueError if the bytes are not a message of this kind."""
    try:
        message: Reply = kind.FromString(encoded)
    except DecodeError as failure:
        raise ValueError(str(failure)) from failure
    return message
