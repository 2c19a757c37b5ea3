"""A hostile containerd: its answers and events are near to real ones, damaged, or nothing like them."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc

from imagekeep import Containerd, Store
from imagekeep.cli.logs import start_logging
from imagekeep.image import PINNED_LABEL, PINNED_VALUE
from imagekeep.sources.containerd import DEFAULT_NAMESPACE
from imagekeep.sources.containerd.events import event_of
from imagekeep.sources.containerd.protocol import EVENT_MESSAGES, SCHEMA, SUBSCRIBE
from imagekeep.sync import sync
from imagekeep.watch import Watcher, WatchIntervals
from tests.torture.fuzz import SECRET, damaged, word
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.torture.survey import Seen

    Judge = Callable[[object, Callable[[], object]], list[Seen]]

NUMBERS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63))


class HostileContainerd(grpc.GenericRpcHandler):
    """Answers every method that is asked for with what is drawn; blobs and records are those of a layout."""

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
                yield event_of_an_image(self.draw, understood=True).SerializeToString()
            self._idle.wait(0.05)
        for _ in range(self.draw.randrange(4)):
            yield self._answer(method, request)

    def _answer(self, method: Any, request: bytes) -> bytes:
        """Return an answer, damaged now and then."""
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
            answer = event_of_an_image(self.draw, understood=False)
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
        """Put the layout's entries into a listing, and records of nothing."""
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


def event_of_an_image(draw: random.Random, *, understood: bool) -> Any:
    """Return an envelope with an image's change, or with anything."""
    envelope = SUBSCRIBE.response()
    _fill(draw, envelope)
    kind, topic = draw.choice(
        (
            ("ImageCreate", "/images/create"),
            ("ImageUpdate", "/images/update"),
            ("ImageDelete", "/images/delete"),
        )
    )
    if understood or draw.random() < 0.5:
        event = EVENT_MESSAGES[kind](name=word(draw).encode(errors="surrogatepass"))
        envelope.topic, envelope.event.value = topic, event.SerializeToString()
    return envelope


def _fill(draw: random.Random, message: Any) -> None:
    """Set some fields of a message, and of those within it."""
    for field in message.DESCRIPTOR.fields:
        if draw.random() < 0.3:
            continue
        held = getattr(message, field.name)
        if field.message_type is not None:
            _fill(draw, held.add() if hasattr(held, "add") else held)
            continue
        text = word(draw)
        value: Any = draw.choice(NUMBERS)
        if field.type == field.TYPE_STRING:
            value = text.encode(errors="replace").decode()
        elif field.type == field.TYPE_BYTES:
            value = text.encode(errors="surrogatepass")
        elif field.type == field.TYPE_INT32:
            value = max(-(2**31), min(value, 2**31 - 1))
        with contextlib.suppress(AttributeError):
            setattr(message, field.name, value)


def feed_daemons(
    place: Path, draw: random.Random, count: int, write_layout: Callable[[Path, Any], None], judged: Judge
) -> list[Seen]:
    """Ask a hostile containerd so many things, sync from it, and follow it."""
    hostile = HostileContainerd(draw)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[hostile])
    server.add_insecure_port(f"unix:{place / 'socket'}")
    server.start()
    seen: list[Seen] = []
    sys.stderr = (place / "log").open("w", encoding="utf-8")  # this process is of its own
    start_logging("text", "debug")
    source = Containerd(str(place / "socket"))
    with source, Store.open(place / "images.db", source=source, platform=PLATFORM) as store:
        asked: tuple[Callable[[], object], ...] = (
            *(source.records, source.namespaces, source.version),
            lambda: source.get(word(draw)),
            lambda: source.info(f"sha256:{'0' * 64}"),
            lambda: list(source.subscribe()),
            lambda: store.update(word(draw)),
        )
        for number in range(count):
            hostile.layout = place / f"layout-{number}"
            write_layout(hostile.layout, draw)
            seen += judged("a call", draw.choice(asked))
            seen += judged("an event", lambda: event_of(event_of_an_image(draw, understood=False)))
            if number % 5 == 0:
                seen += judged("a sync", lambda: sync(store))
            if number % 50 == 0:
                seen += judged("a watcher", lambda: _follow(place))
                seen += broken_invariants(store.path)
    server.stop(None).wait()
    log = (place / "log").read_text(encoding="utf-8")
    if "Traceback" in log or SECRET in log or any(not line.isprintable() for line in log.split("\n")):
        seen.append((Harm.BROKEN, f"the log: {log[-1500:]}"))
    return seen


def _follow(place: Path) -> None:
    """Follow the containerd for a moment, and say how far that came."""
    pace = WatchIntervals(settle=0.01, reconcile=0.02, retry=0.01, back_off=0.001, longest=0.01)
    with (
        Containerd(str(place / "socket")) as source,
        Store.open(place / "images.db", source=source, platform=PLATFORM) as store,
    ):
        watcher = Watcher(store, source_name="hostile", pace=pace)
        threading.Timer(0.3, watcher.stop).start()
        watcher.run()
        store.watcher()
