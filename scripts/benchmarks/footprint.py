"""Measures what `watch` and `serve` cost a node while nothing changes, beside node_exporter and containerd."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import daemons
from benchmarks.corpus import made_images
from benchmarks.http2 import Connection
from benchmarks.measure import Figure, Row, timed
from imagekeep.cri.protocol import LIST_IMAGES
from imagekeep.sources.containerd import Containerd

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLE = 12.0
"""Seconds after the first sync until the connection for calls is closed, and the caches are warm."""

SECONDS = 30.0
"""Seconds that a process is observed."""

LISTS = 500
PAUSE = 0.01
"""Seconds between two changes of a record."""

EXPORTER = "prometheus-node-exporter"


class Idle(NamedTuple):
    """What a process cost while it was observed: megabytes, percent of a core, wake-ups and bytes per second."""

    resident: float
    cpu: float
    wakeups: float
    written: float


class Counters(NamedTuple):
    """The counters of a process: nanoseconds on a core, switches to its threads, bytes written to files."""

    cpu: int
    switches: int
    written: int


def idle(directory: Path, count: int) -> Iterator[Row]:
    """Measure `watch` and `serve` that follow one containerd; their targets hold for 200 images."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        root = Path(temporary, "root")
        shutil.copytree(daemons.root_of(directory, count), root)
        containerd_socket, containerd = stack.enter_context(daemons.containerd_process(root))
        daemons.wait_until(lambda: len(daemons.ids_in(daemons.listed(containerd_socket))) == count)
        measured = {"containerd": containerd}
        for name in ("watch", "serve"):
            measured[name] = stack.enter_context(_following(Path(temporary), name, containerd_socket, count))
        if shutil.which(EXPORTER):
            measured["node_exporter"] = stack.enter_context(_exporter())
        time.sleep(SETTLE)
        figures = _observe(measured)
    others: dict[str, Idle] = {
        name: figures[name] for name in ("containerd", "node_exporter") if name in figures
    }
    for name in ("watch", "serve"):
        yield from _rows(name, count, figures[name], others)


def _rows(name: str, count: int, mine: Idle, others: dict[str, Idle]) -> Iterator[Row]:
    def beside(field: str, unit: str) -> str:
        return ", ".join(f"{other} {getattr(costs, field):.3g}{unit}" for other, costs in others.items())

    described = f"`{name}`, {count:,} images, nothing changes"
    yield Row(
        f"{described}: resident MB", Figure(mine.resident, 0), at_most=56, note=beside("resident", " MB")
    )
    yield Row(f"{described}: % of a core", Figure(mine.cpu, 0), at_most=0.05, note=beside("cpu", "%"))
    yield Row(
        f"{described}: wake-ups per second", Figure(mine.wakeups, 0), at_most=2, note=beside("wakeups", "")
    )
    yield Row(f"{described}: bytes written per second", Figure(mine.written, 0), at_most=0)


def _observe(processes: dict[str, int]) -> dict[str, Idle]:
    before = {name: _counters(process) for name, process in processes.items()}
    time.sleep(SECONDS)
    return {name: _idle(process, before[name]) for name, process in processes.items()}


def _idle(process: int, before: Counters) -> Idle:
    after = _counters(process)
    return Idle(
        _resident(process) / 1e6,
        (after.cpu - before.cpu) / 1e9 / SECONDS * 100,
        (after.switches - before.switches) / SECONDS,
        (after.written - before.written) / SECONDS,
    )


def _counters(process: int) -> Counters:
    """Return the counters of all threads (proc(5): schedstat, status, io)."""
    cpu = switches = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        cpu += int((thread / "schedstat").read_text().split()[0])
        fields = _fields(thread / "status")
        switches += int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])
    return Counters(cpu, switches, int(_fields(Path(f"/proc/{process}/io"))["write_bytes"]))


def _resident(process: int) -> int:
    return int(_fields(Path(f"/proc/{process}/status"))["VmRSS"].split()[0]) * 1024


def _fields(file: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in file.read_text().splitlines())


@contextlib.contextmanager
def _following(directory: Path, name: str, containerd: Path, count: int) -> Iterator[int]:
    """Run `watch` or `serve` until it has been ready once; yield its PID."""
    store, listening = directory / f"{name}.db", directory / f"{name}.sock"
    options = {
        "watch": [],
        "serve": [
            f"--listen=unix://{listening}",
        ],
    }[name]
    command = [sys.executable, "-m", "imagekeep", f"--store={store}", f"--source=containerd:{containerd}"]
    with daemons.running([*command, name, *options]) as process:
        if name == "serve":
            daemons.wait_until(lambda: len(daemons.ids_in(daemons.listed(listening))) == count)
        yield process


def lists_under_changes(directory: Path, count: int) -> Iterator[Row]:
    """Measure ListImages while another client changes a record every PAUSE seconds, against containerd's own."""
    request = LIST_IMAGES.request().SerializeToString()
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        root = Path(temporary, "root")
        shutil.copytree(daemons.root_of(directory, count), root)
        theirs = stack.enter_context(daemons.containerd(root))
        daemons.wait_until(lambda: len(daemons.ids_in(daemons.listed(theirs))) == count)
        stack.enter_context(_following(Path(temporary), "serve", theirs, count))
        connections = [
            stack.enter_context(contextlib.closing(Connection(socket, LIST_IMAGES.path)))
            for socket in (Path(temporary, "serve.sock"), theirs)
        ]
        stack.enter_context(_changing(theirs, count))
        taken = [[timed(lambda: each.ask(request)) for each in connections] for _ in range(LISTS)]  # noqa: B023
    mine, others = (statistics.median(seconds) for seconds in zip(*taken, strict=True))
    yield Row(
        f"CRI ListImages, {count:,} images, a change every {PAUSE * 1000:.0f} ms: cost against containerd's",
        Figure.of([ours / baseline for ours, baseline in taken]),
        at_most=1,
        ours=mine,
        baseline=others,
    )


@contextlib.contextmanager
def _changing(containerd: Path, count: int) -> Iterator[None]:
    """Pin and unpin images in turn until the context ends."""
    stop = threading.Event()
    tags = [image.tag for image in made_images(count)]

    def change() -> None:
        with Containerd(str(containerd)) as source:
            for number in itertools.count():
                if stop.wait(PAUSE):
                    return
                (source.unpin if number // count % 2 else source.pin)(tags[number % count])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _exporter() -> Iterator[int]:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with daemons.running([EXPORTER, f"--web.listen-address=127.0.0.1:{port}"]) as process:
        yield process
