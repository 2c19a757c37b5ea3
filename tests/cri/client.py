"""A CRI client: calls by name, and replies as dictionaries with the proto's field names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self
from wsgiref.util import setup_testing_defaults

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict

from imagekeep.cri.protocol import SCHEMA
from imagekeep.cri.server_info import CHECK
from imagekeep.paths import grpc_address

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.cri.metrics import Metrics

METHODS = {method.path.rpartition("/")[2]: method for method in (*SCHEMA.methods.values(), CHECK)}


class Answer(NamedTuple):
    """The result of a call: its code, the replies, and the details of an error."""

    code: str
    reply: Any = None
    details: str = ""


class Client:
    """Calls the server at a socket, over its own connection."""

    def __init__(self, socket: Path | str) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 16 << 20),
            ("grpc.max_metadata_size", 16 << 20),  # as Go's clients allow for error details
            ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.default_authority", "localhost"),
        ]
        self.channel = grpc.insecure_channel(grpc_address(socket), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def ask(self, name: str, request: dict[str, Any] | None = None, timeout: float = 20) -> Answer:
        """Call a method with a request given as JSON."""
        method = METHODS[name]
        make = self.channel.unary_stream if method.streams else self.channel.unary_unary
        call = make(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            reply = call(ParseDict(request or {}, method.request()), timeout=timeout, wait_for_ready=True)
            return Answer("OK", [plain(one) for one in reply] if method.streams else plain(reply))
        except grpc.RpcError as failure:
            return Answer(failure.code().name, None, failure.details() or "")

    def images(self) -> list[dict[str, Any]]:
        """Return the listed images."""
        answer = self.ask("ListImages")
        assert answer.code == "OK", answer
        return list(answer.reply.get("images", []))

    def status(self, image: str, **fields: Any) -> Answer:
        """Return the status of an image."""
        return self.ask("ImageStatus", named(image, **fields))


def named(image: str, **fields: Any) -> dict[str, Any]:
    """Return a request for an image."""
    return {"image": {"image": image}, **fields}


def plain(message: Any) -> Any:
    """Return a message as JSON with the proto's field names, like the recordings."""
    return MessageToDict(message, preserving_proto_field_name=True)


def page_of(metrics: Metrics) -> str:
    """Return the metrics page without a server."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return b"".join(metrics.page()(environ, lambda *_: print)).decode()
