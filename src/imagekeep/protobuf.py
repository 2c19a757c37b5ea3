"""Protobuf messages and gRPC methods, declared in the words of a `.proto` file and made when they are imported.

::

    SCHEMA = Schema('''
        package example.v1;
        message Question { string name = 1; }
        message Answer { repeated string words = 1; map<string, string> labels = 2; }
        service Oracle { rpc Ask(Question) returns (Answer); }
    ''')
    Ask = SCHEMA.methods["/example.v1.Oracle/Ask"]
    request = Ask.request(name="x")

Code that protoc generates demands the protobuf it was made with or a newer one; what is made at run time works
with any, and takes some milliseconds. A program that talks to others over a protocol of theirs declares only the
messages and fields that it uses: whatever else comes is passed over, which protobuf promises.

The language is that of `.proto` files (protobuf, language guide, proto3), cut down: a text may have several
packages, one after another; there are messages with scalar, message, `repeated` and `map` fields, and services
whose methods answer with one message or a stream of them. A type with a dot in it is a full name; one without
is of the same package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagekeep.errors import MissingExtraError

try:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass
except ImportError as missing:
    raise MissingExtraError("protobuf", "containerd") from missing

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = Any
"""A message; its fields are attributes, and no type checker knows them."""

_DECLARATION = re.compile(
    r"""\s*+(?:
        package\s+(?P<package>[\w.]+)\s*;
      | message\s+(?P<message>\w+)\s*\{(?P<fields>[^}]*)\}
      | service\s+(?P<service>\w+)\s*\{(?P<methods>[^}]*)\}
    )\s*+""",
    re.VERBOSE,
)
_FIELD = re.compile(
    r"""\s*+(?P<repeated>repeated\s+)?
        (?:map\s*<\s*(?P<key>\w+)\s*,\s*(?P<value>[\w.]+)\s*>|(?P<type>[\w.]+))
        \s+(?P<name>\w+)\s*=\s*(?P<number>\d+)\s*;\s*+""",
    re.VERBOSE,
)
_METHOD = re.compile(
    r"""\s*+rpc\s+(?P<name>\w+)\s*\(\s*(?P<request>[\w.]+)\s*\)
        \s*returns\s*\(\s*(?P<stream>stream\s+)?(?P<response>[\w.]+)\s*\)\s*;\s*+""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"//[^\n]*")
_SCALARS = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method: its path, the classes of what it takes and gives, and whether it gives a stream."""

    path: str
    request: type[Message]
    response: type[Message]
    streams: bool


class Schema:
    """The messages by full name, and the methods by path, that a text declares.

    The classes are this schema's own: another program's message of the same name does not meet them.
    """

    def __init__(self, text: str) -> None:
        """Make what `text` declares; raises ValueError where it is not of the language."""
        self._pool = DescriptorPool()
        self.messages: dict[str, type[Message]] = {}
        self.methods: dict[str, Method] = {}
        files, services = _parse(_COMMENT.sub("", text))
        for file in files:
            self._pool.AddSerializedFile(file.SerializeToString())
        for file in files:
            for message in file.message_type:
                name = f"{file.package}.{message.name}"
                self.messages[name] = GetMessageClass(self._pool.FindMessageTypeByName(name))
        for package, service, method in services:
            self._add_method(package, service, method)

    def _add_method(self, package: str, service: str, method: re.Match[str]) -> None:
        path = f"/{package}.{service}/{method['name']}"
        try:
            request = self.messages[_full_name(method["request"], package)]
            response = self.messages[_full_name(method["response"], package)]
        except KeyError as undeclared:
            raise ValueError(f"{path}: {undeclared} is not declared") from None
        self.methods[path] = Method(path, request, response, bool(method["stream"]))


def decode(kind: type[Message], encoded: bytes) -> Message:
    """Decode a message that stands inside another; raises ValueError where the bytes are none of this kind."""
    try:
        return kind.FromString(encoded)
    except DecodeError as failure:
        raise ValueError(str(failure)) from failure


def _parse(text: str) -> tuple[list[Any], list[tuple[str, str, re.Match[str]]]]:
    """Return the packages as protobuf's own descriptors of files, and each method with its service."""
    files: list[Any] = []
    services: list[tuple[str, str, re.Match[str]]] = []
    for declaration in _each(_DECLARATION, text):
        if declaration["package"]:
            name = declaration["package"]
            files.append(FileDescriptorProto(name=f"{name}.proto", package=name, syntax="proto3"))
            continue
        if not files:
            raise ValueError("a schema begins with a package")
        file = files[-1]
        if declaration["message"]:
            message = file.message_type.add(name=declaration["message"])
            for field in _each(_FIELD, declaration["fields"]):
                _add_field(message, field, file)
        else:
            methods = _each(_METHOD, declaration["methods"])
            services += [(file.package, declaration["service"], method) for method in methods]
    return files, services


def _each(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Yield the matches that a text consists of; raises ValueError for what lies between."""
    position = len(text) - len(text.lstrip())
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise ValueError(f"not understood in a schema: {text[position : position + 60].strip()!r}")
        yield match
        position = match.end()


def _add_field(message: Any, field: re.Match[str], file: Any) -> None:
    """Add a field to the descriptor of a message; a map is a repeated message of keys and values."""
    described = message.field.add(name=field["name"], number=int(field["number"]))
    described.label = FieldDescriptorProto.LABEL_OPTIONAL
    if field["repeated"] or field["key"]:
        described.label = FieldDescriptorProto.LABEL_REPEATED
    if not field["key"]:
        _set_type(described, field["type"], file)
        return
    entry = DescriptorProto(name="".join(map(str.capitalize, field["name"].split("_"))) + "Entry")
    entry.options.map_entry = True
    for name, number, type_name in (("key", 1, field["key"]), ("value", 2, field["value"])):
        part = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        _set_type(part, type_name, file)
    message.nested_type.append(entry)
    _set_type(described, f"{file.package}.{message.name}.{entry.name}", file)


def _set_type(described: Any, type_name: str, file: Any) -> None:
    """Give a field its type, noting the package that a message of another one comes from."""
    if scalar := _SCALARS.get(type_name):
        described.type = scalar
        return
    name = _full_name(type_name, file.package)
    described.type = FieldDescriptorProto.TYPE_MESSAGE
    described.type_name = f".{name}"
    other = f"{name.rpartition('.')[0]}.proto"
    if not name.startswith(f"{file.package}.") and other not in file.dependency:
        file.dependency.append(other)


def _full_name(type_name: str, package: str) -> str:
    return type_name if "." in type_name else f"{package}.{type_name}"
