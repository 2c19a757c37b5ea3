"""Hostile gRPC peers: a containerd with damaged replies and events, and a CRI client with damaged requests."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from imagekeep import Containerd, Store
from imagekeep.cli.logs import start_logging
from imagekeep.cri.protocol import SCHEMA as CRI
from imagekeep.cri.server_info import CHECK, REFLECT
from imagekeep.digest import digest_of
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, Image
from imagekeep.sources.containerd import DEFAULT_NAMESPACE
from imagekeep.sources.containerd.events import TASK_EXITED, TASK_STARTED, event_of
from imagekeep.sources.containerd.protocol import (
    CONTAINER_MESSAGES,
    IMAGE_MESSAGES,
    SCHEMA,
    SUBSCRIBE,
    TASK_EXIT,
    TASK_START,
)
from imagekeep.sync import sync
from imagekeep.watch import Watcher, WatchIntervals
from tests.cri.process import serving
from tests.torture.fuzz import SECRET, damaged, encoded, word
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from imagekeep.protobuf import Method
    from tests.torture.report import Seen

    Judge = Callable[[object, Callable[[], object]], list[Seen]]

NUMBERS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63))


class HostileContainerd(grpc.GenericRpcHandler):
    """Answers every method at random; blobs and records are those of a layout."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.layout: Path | None = None
        self._idle = threading.Event()

    def service(self, details: Any) -> Any:
        """Return the handler of a method."""
        method = SCHEMA.methods[details.method]
        if method.streams:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._stream(method, request)
            )
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._answer(method, request))

    def _stream(self, method: Any, request: bytes) -> Iterator[bytes]:
        if method is SUBSCRIBE and self.draw.random() < 0.5:  # events that are understood, and then nothing
            for _ in range(self.draw.randrange(4)):
                yield any_event(self.draw, understood=True).SerializeToString()
            self._idle.wait(0.05)
        for _ in range(self.draw.randrange(4)):
            yield self._answer(method, request)

    def _answer(self, method: Any, request: bytes) -> bytes:
        """Return a reply, sometimes damaged."""
        if self.draw.random() < 0.05:
            return self.draw.randbytes(self.draw.choice((0, 1, 30, 3000)))
        answer = method.response()
        blob = self._blob(method.request.FromString(request))
        if hasattr(answer, "images"):
            self._fill_listing(answer)
        elif hasattr(answer, "data") and blob is not None:
            answer.data = blob
        elif hasattr(answer, "info") and blob is not None:
            answer.info.size = self.draw.choice((len(blob), len(blob), *NUMBERS))
        elif method is SUBSCRIBE:
            answer = any_event(self.draw, understood=False)
        else:
            _fill(self.draw, answer)
            if hasattr(answer, "namespaces"):
                answer.namespaces.add(name=DEFAULT_NAMESPACE)
        encoded: bytes = answer.SerializeToString()
        return damaged(self.draw, encoded) if self.draw.random() < 0.1 else encoded

    def _blob(self, request: Any) -> bytes | None:
        """Return the blob that a request is about."""
        algorithm, _, encoded = getattr(request, "digest", "").partition(":")
        if self.layout is None or not encoded.isalnum() or algorithm != "sha256":
            return None
        with contextlib.suppress(OSError):
            return (self.layout / "blobs" / algorithm / encoded).read_bytes()
        return None

    def _fill_listing(self, answer: Any) -> None:
        """Add the layout's entries to a listing, and records without content."""
        entries = []
        if self.layout is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                entries = list(json.loads((self.layout / "index.json").read_bytes())["manifests"])
        for entry in entries:
            image = answer.images.add(name=word(self.draw).encode(errors="surrogatepass"))
            with contextlib.suppress(ValueError, TypeError, KeyError):
                image.target.digest = entry["digest"]
                image.target.media_type = entry["mediaType"]
                image.target.size = entry["size"]
            image.labels.add(key=PINNED_LABEL.encode(), value=PINNED_VALUE.encode())
        for _ in range(self.draw.randrange(3)):
            _fill(self.draw, answer.images.add())


def any_event(draw: random.Random, *, understood: bool) -> Any:
    """Return an envelope with an event of an image or a container, or with random fields."""
    envelope = SUBSCRIBE.response()
    _fill(draw, envelope)
    topic = draw.choice([*IMAGE_MESSAGES, *CONTAINER_MESSAGES, TASK_STARTED, TASK_EXITED])
    if understood or draw.random() < 0.5:
        envelope.topic, envelope.event.value = topic, _message(draw, topic).SerializeToString()
    return envelope


def _message(draw: random.Random, topic: str) -> Any:
    """Return the message of an event with random names."""
    if topic in IMAGE_MESSAGES:
        return IMAGE_MESSAGES[topic](name=word(draw).encode(errors="surrogatepass"))
    container = draw.choice(("app", "app-2", word(draw).encode(errors="replace").decode()))
    if topic in CONTAINER_MESSAGES:
        return CONTAINER_MESSAGES[topic](id=container)
    return TASK_START(container_id=container) if topic == TASK_STARTED else TASK_EXIT(container_id=container)


def _fill(draw: random.Random, message: Any, depth: int = 3) -> None:
    """Set some fields of a message, and of the messages within it."""
    for field in message.DESCRIPTOR.fields:
        if draw.random() < 0.3:
            continue
        held = getattr(message, field.name)
        if field.message_type is None:
            _set(draw, message, field)
        elif depth and not field.message_type.GetOptions().map_entry:
            _fill(draw, held.add() if hasattr(held, "add") else held, depth - 1)


def _set(draw: random.Random, message: Any, field: Any) -> None:
    """Set a field, or append to a repeated one, if its type is one of those that attract mistakes."""
    text = draw.choice((word(draw), "docker.io/library/busybox:1.36"))
    number = draw.choice(NUMBERS)
    values: dict[int, Any] = {
        field.TYPE_STRING: text.encode(errors="replace").decode(),
        field.TYPE_BYTES: text.encode(errors="surrogatepass"),
        field.TYPE_BOOL: draw.random() < 0.5,
        field.TYPE_INT32: max(-(2**31), min(number, 2**31 - 1)),
        field.TYPE_INT64: number,
        field.TYPE_UINT64: number % 2**64,
    }
    if field.type not in values:
        return
    held = getattr(message, field.name)
    if hasattr(held, "append"):
        held.append(values[field.type])
    else:
        setattr(message, field.name, values[field.type])


def feed_daemons(
    place: Path, draw: random.Random, count: int, write_layout: Callable[[Path, Any], None], harms_of: Judge
) -> list[Seen]:
    """Call a hostile containerd `count` times, sync from it, and watch it."""
    hostile = HostileContainerd(draw)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[hostile])
    server.add_insecure_port(f"unix:{place / 'socket'}")
    server.start()
    seen: list[Seen] = []
    sys.stderr = (place / "log").open("w", encoding="utf-8")  # only in this process
    start_logging("text", "debug")
    source = Containerd(str(place / "socket"))
    with source, Store.open(place / "images.db", source=source, platform=PLATFORM) as store:
        asked: tuple[Callable[[], object], ...] = (
            *(source.records, source.namespaces, source.version),
            lambda: source.get(word(draw)),
            lambda: source.info(f"sha256:{'0' * 64}"),
            lambda: list(source.subscribe()),
            *(source.contents, source.containers, source.unpacked),
            lambda: source.contents([f"sha256:{'0' * 64}"]),
            lambda: [source.parent_of(container) for container in source.containers(["app", word(draw)])],
            lambda: source.unpacked_bytes([f"sha256:{'0' * 64}"]),
            lambda: store.update(word(draw)),
        )
        for number in range(count):
            hostile.layout = place / f"layout-{number}"
            write_layout(hostile.layout, draw)
            seen += harms_of("a call", draw.choice(asked))
            seen += harms_of("an event", lambda: event_of(any_event(draw, understood=False)))
            if number % 5 == 0:
                seen += harms_of("a sync", lambda: sync(store))
            if number % 50 == 0:
                seen += harms_of("a watcher", lambda: _follow(place))
                seen += broken_invariants(store.path)
    server.stop(None).wait()
    log = (place / "log").read_text(encoding="utf-8")
    if "Traceback" in log or SECRET in log or any(not line.isprintable() for line in log.split("\n")):
        seen.append((Harm.BROKEN, f"the log: {log[-1500:]}"))
    return seen


def _follow(place: Path) -> None:
    """Watch the containerd for a moment, and read the watcher status."""
    intervals = WatchIntervals(settle=0.01, reconcile=0.02, retry=0.01, back_off=0.001, max_delay=0.01)
    with (
        Containerd(str(place / "socket")) as source,
        Store.open(place / "images.db", source=source, platform=PLATFORM) as store,
    ):
        watcher = Watcher(store, source_name="hostile", intervals=intervals)
        threading.Timer(0.3, watcher.stop).start()
        watcher.run()
        store.watcher()


METHODS: list[Method[Any, Any]] = [*CRI.methods.values(), CHECK, *REFLECT]
MEMORY_MIB = 512


def feed_calls(place: Path, draw: random.Random, count: int, config: dict[str, Any]) -> list[Seen]:
    """Make `count` calls to a server, which must answer each and still work at the end."""
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
            seen.append((Harm.CRASHED, f"the server does not work at the end: {code}"))
        log = server.log.read_text()
        if "Traceback" in log or SECRET in log or any(not line.isprintable() for line in log.splitlines()):
            seen.append((Harm.BROKEN, f"the log: {log[-1500:]}"))
        if (used := _largest_mib(server.pid)) > MEMORY_MIB:
            seen.append((Harm.BROKEN, f"the server took {used} MiB"))
    return seen


def _request(draw: random.Random, method: Method[Any, Any]) -> bytes:
    """Return a request with random fields, sometimes damaged, sometimes random bytes."""
    if draw.random() < 0.1:
        return draw.randbytes(draw.choice((0, 1, 7, 200, 5000)))
    message = method.request()
    _fill(draw, message)
    serialized: bytes = message.SerializeToString()
    return damaged(draw, serialized) if draw.random() < 0.4 else serialized


def _call(channel: Any, path: str, request: bytes) -> tuple[str, str]:
    """Make a call with an encoded request; return the code, and the reply or the details."""
    try:
        replies = channel.stream_stream(path)(iter([request]), timeout=30)
        return "OK", b"".join(replies).decode(errors="replace")
    except grpc.RpcError as failure:
        return failure.code().name, str(failure.details())


def _largest_mib(pid: int) -> int:
    """Return the peak memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) >> 10
