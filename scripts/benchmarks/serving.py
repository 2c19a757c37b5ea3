"""Measures the CRI server against containerd's: calls per second, the time to a full list, and a reconcile."""

from __future__ import annotations

import contextlib
import select
import statistics
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import daemons
from benchmarks.corpus import PLATFORM, made_images
from benchmarks.http2 import Connection
from benchmarks.measure import Figure, Row, in_turns
from imagekeep.cri.protocol import IMAGE_STATUS
from imagekeep.sources.containerd import Containerd
from imagekeep.store import Store
from imagekeep.sync import sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imagekeep.image import ImageRecord
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor

CLIENTS = 8
SECONDS = 1.0
ROUNDS = 5
MANY = 10_000
"""The smallest number of images for which a start has a target."""


class Load(NamedTuple):
    """Throughput of some clients in calls per second, and the 99th percentile of their latency in seconds."""

    each_second: float
    p99: float


class Clients:
    """Clients that ask one server for image statuses, each on its own connection."""

    def __init__(self, socket: Path, count: int) -> None:
        images = [image.tag for image in made_images(count)]
        self._requests = [IMAGE_STATUS.request(image={"image": tag}).SerializeToString() for tag in images]
        self._connections = [Connection(socket, IMAGE_STATUS.path) for _ in range(CLIENTS)]
        self._replies = [self._connections[0].ask(request) for request in self._requests]
        for image, reply in zip(made_images(count), self._replies, strict=True):
            if IMAGE_STATUS.response.FromString(reply).image.id != image.image_id:
                raise ValueError("ImageStatus: a wrong answer")

    @property
    def first_reply(self) -> bytes:
        """Return the reply about the first image."""
        return self._replies[0]

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def ask(self, seconds: float = SECONDS) -> Load:
        """Ask from every client continuously for some seconds, and check every reply."""
        latencies: list[float] = []
        asked: dict[int, tuple[Connection, int, float]] = {}
        clock, turn = time.perf_counter, 0
        with select.epoll() as poll:

            def send(connection: Connection) -> None:
                nonlocal turn
                turn = (turn + 1) % len(self._requests)
                asked[connection.fileno()] = connection, turn, clock()
                connection.send(self._requests[turn])

            finish = clock() + seconds
            for connection in self._connections:
                poll.register(connection, select.EPOLLIN)
                send(connection)
            while asked:
                for number, _ in poll.poll():
                    connection, which, began = asked[number]
                    reply = connection.receive()
                    if reply is None:
                        continue
                    latencies.append(clock() - began)
                    if reply != self._replies[which]:
                        raise ValueError("ImageStatus: a wrong answer")
                    del asked[number]
                    if clock() < finish:
                        send(connection)
                    else:
                        poll.unregister(connection)
        return Load(len(latencies) / seconds, statistics.quantiles(latencies, n=100)[98])


def statuses(directory: Path, count: int) -> Iterator[Row]:
    """Measure ImageStatus with concurrent clients, against containerd's own."""
    root, store = daemons.root_of(directory, count), daemons.synced_store(directory, count)
    with (
        daemons.containerd(root) as theirs,
        daemons.imagekeep(store) as ours,
        contextlib.ExitStack() as clients,
    ):
        for socket in (theirs, ours):
            _wait_for_list(socket, count)
        of_ours = clients.enter_context(contextlib.closing(Clients(ours, count)))
        of_theirs = clients.enter_context(contextlib.closing(Clients(theirs, count)))
        with daemons.constant(of_ours.first_reply) as bound:
            daemons.wait_until(bound.exists)
            of_bound = clients.enter_context(contextlib.closing(Clients(bound, 1)))
            loads = [(of_ours.ask(), of_theirs.ask(), of_bound.ask()) for _ in range(ROUNDS + 1)][1:]
    alone = statistics.median(others.each_second for _, _, others in loads)
    yield Row(
        f"CRI ImageStatus, {CLIENTS} clients, {count:,} images: calls per second against containerd's",
        Figure.of([mine.each_second / others.each_second for mine, others, _ in loads]),
        at_least=0.5,
        ours=1 / statistics.median(mine.each_second for mine, _, _ in loads),
        baseline=1 / statistics.median(others.each_second for _, others, _ in loads),
        note=f"gRPC's Python server with a constant reply: {alone:,.0f} per second",
    )
    yield Row(
        f"CRI ImageStatus, {CLIENTS} clients, {count:,} images: p99 against containerd's",
        Figure.of([mine.p99 / others.p99 for mine, others, _ in loads]),
        at_most=3,
        ours=statistics.median(mine.p99 for mine, _, _ in loads),
        baseline=statistics.median(others.p99 for _, others, _ in loads),
    )


def starts(directory: Path, counts: list[int]) -> Iterator[Row]:
    """Measure the time from process start to the first full list, against containerd's."""
    taken: dict[int, list[float]] = {}
    for count in counts:
        root, store = daemons.root_of(directory, count), daemons.synced_store(directory, count)
        turns = in_turns(
            lambda: _start(daemons.imagekeep(store), count),  # noqa: B023 - called in this turn of the loop
            lambda: _start(daemons.containerd(root), count),  # noqa: B023
            ROUNDS,
        )
        taken[count] = [mine for mine, _ in turns]
        yield Row(
            f"start to a full CRI list, {count:,} images: speedup over containerd",
            Figure.of([theirs / mine for mine, theirs in turns]),
            at_least=5 if count >= MANY else None,
            ours=statistics.median(taken[count]),
            baseline=statistics.median(theirs for _, theirs in turns),
        )
    few, many = min(counts), max(counts)
    yield Row(
        f"start to a full CRI list, imagekeep: {many:,} images against {few:,}",
        Figure.of([much / little for much, little in zip(taken[many], taken[few], strict=True)]),
        note="the list is built and sent",
    )


def _start(server: AbstractContextManager[Path], count: int) -> None:
    with server as socket:
        _wait_for_list(socket, count)


def _wait_for_list(socket: Path, count: int) -> None:
    """Wait until a server lists the first `count` images."""
    expected = {image.image_id for image in made_images(count)}
    daemons.wait_until(lambda: daemons.ids_in(daemons.listed(socket)) == expected)


class Counting:
    """A source that counts the calls to it."""

    def __init__(self, source: Containerd) -> None:
        self._source = source
        self.calls: Counter[str] = Counter()

    def get(self, reference: str) -> ImageRecord:
        """Return one record."""
        self.calls["get"] += 1
        return self._source.get(reference)

    def records(self) -> list[ImageRecord]:
        """Return every record."""
        self.calls["list"] += 1
        return self._source.records()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document."""
        self.calls["read"] += 1
        return self._source.read(descriptor)

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a document."""
        self.calls["info"] += 1
        return self._source.info(digest)


def reconciles(directory: Path, count: int) -> Iterator[Row]:
    """Measure the first sync after opening, without changes, against one that reads every image again."""
    path = daemons.synced_store(directory, count)
    with daemons.containerd(daemons.root_of(directory, count)) as socket:
        _wait_for_list(socket, count)

        def reconcile() -> None:
            calls, commits = _reconcile(path, socket, verify=False)
            if calls != {"list": 1} or commits != 1:
                raise ValueError(f"reconcile: {dict(calls)}, {commits} transactions")

        turns = in_turns(reconcile, lambda: _reconcile(path, socket, verify=True), ROUNDS)
    yield Row(
        f"reconcile after a restart, {count:,} images, none changed: speedup over reading all",
        Figure.of([reading / confirming for confirming, reading in turns]),
        at_least=10,
        ours=statistics.median(confirming for confirming, _ in turns),
        baseline=statistics.median(reading for _, reading in turns),
        note="one List call, one transaction",
    )


def _reconcile(path: Path, socket: Path, *, verify: bool) -> tuple[Counter[str], int]:
    """Open and sync a store; return the calls to its source, and the number of commits."""
    with Containerd(str(socket)) as containerd:
        source = Counting(containerd)
        with Store.open(path, source=source, platform=PLATFORM) as store:
            before = _commits(path)
            report = sync(store, verify=verify)
            committed = _commits(path) - before
    if report.changed or report.failures:
        raise ValueError("reconcile: something changed")
    return source.calls, committed


def _commits(path: Path) -> int:
    """Count the commits in a store's -wal file (SQLite file format, 4.1: a commit frame has the database size)."""
    wal = path.with_name(f"{path.name}-wal")
    content = wal.read_bytes() if wal.exists() else b""
    if not content:
        return 0
    page_size, salt = int.from_bytes(content[8:12], "big"), content[16:24]
    frames = (content[begin : begin + 24] for begin in range(32, len(content), 24 + page_size))
    return sum(frame[8:16] == salt and struct.unpack(">I", frame[4:8]) != (0,) for frame in frames)
