"""Hostile clients of the CRI socket: calls whose requests are near to real ones, or nothing like them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from imagekeep import Store
from imagekeep.cri.protocol import SCHEMA
from imagekeep.cri.server_info import CHECK, REFLECT
from imagekeep.digest import digest_of
from imagekeep.image import Image
from tests.cri.process import serving
from tests.torture.fuzz import SECRET, damaged, encoded, word
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm

if TYPE_CHECKING:
    import random

    from imagekeep.protobuf import Method
    from tests.torture.survey import Seen

METHODS: list[Method[Any, Any]] = [*SCHEMA.methods.values(), CHECK, *REFLECT]
MEMORY_MIB = 512


def feed_calls(place: Path, draw: random.Random, count: int, config: dict[str, Any]) -> list[Seen]:
    """Make so many calls to a server of its own, which must answer each, and still be well in the end."""
    with Store.open(place / "images.db", platform=PLATFORM) as store:
        document = encoded(draw, config)
        store.add(Image(digest_of(document), ("docker.io/library/busybox:1.36",), "", 1, False, document))
    seen: list[Seen] = []
    with serving(place) as server, grpc.insecure_channel(f"unix:{server.socket}") as channel:
        for _ in range(count):
            method = draw.choice(METHODS)
            request = _request(draw, method)
            code, said = _call(channel, method.path, request)
            what = f"{method.path} {request!r:.300}: {code} {said!r:.300}"
            if code == "DEADLINE_EXCEEDED":
                seen.append((Harm.HUNG, what))
            elif code == "UNAVAILABLE" or "Unexpected" in said or "Traceback" in said:
                seen.append((Harm.CRASHED, what))
            elif SECRET in said and b"\x10\x01" not in request:  # only a verbose status shows a config
                seen.append((Harm.BROKEN, what))
        if (code := _call(channel, "/runtime.v1.RuntimeService/Version", b"")[0]) != "OK":
            seen.append((Harm.CRASHED, f"the server is not well in the end: {code}"))
        log = server.log.read_text()
        if "Traceback" in log or SECRET in log or any(not line.isprintable() for line in log.splitlines()):
            seen.append((Harm.BROKEN, f"the log: {log[-1500:]}"))
        if (used := _largest_mib(server.pid)) > MEMORY_MIB:
            seen.append((Harm.BROKEN, f"the server took {used} MiB"))
    return seen


def _request(draw: random.Random, method: Method[Any, Any]) -> bytes:
    """Return a request of a method with words in its fields, damaged or not; now and then any bytes at all."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.choice((0, 1, 7, 200, 5000)))
    message = method.request()
    _fill(draw, message, 3)
    serialized: bytes = message.SerializeToString()
    return damaged(draw, serialized) if draw.random() < 0.4 else serialized


def _fill(draw: random.Random, message: Any, depth: int) -> None:
    """Set some fields of a message, and of those within it."""
    for field in message.DESCRIPTOR.fields:
        if draw.random() < 0.4:
            continue
        if field.message_type is not None:
            if depth and not field.message_type.GetOptions().map_entry:
                within = getattr(message, field.name)
                _fill(draw, within.add() if hasattr(within, "add") else within, depth - 1)
        elif field.type == field.TYPE_STRING:
            text = (
                draw.choice((word(draw), "docker.io/library/busybox:1.36")).encode(errors="replace").decode()
            )
            if hasattr(getattr(message, field.name), "append"):
                getattr(message, field.name).append(text)
            else:
                setattr(message, field.name, text)
        elif field.type == field.TYPE_BOOL:
            setattr(message, field.name, draw.random() < 0.5)


def _call(channel: Any, path: str, request: bytes) -> tuple[str, str]:
    """Make a call with a request as it is; return the code, and what was said."""
    try:
        replies = channel.stream_stream(path)(iter([request]), timeout=30)
        return "OK", b"".join(replies).decode(errors="replace")
    except grpc.RpcError as failure:
        return failure.code().name, str(failure.details())


def _largest_mib(pid: int) -> int:
    """Return the most memory that a process had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) >> 10
