"""One process of those that the benchmark runs: `python -m benchmarks.child ROLE PATH`.

It opens what it needs, prints a line, waits for a line, does its part, and prints what came of it in JSON. What
writes is in `benchmarks.writer`: SQLAlchemy must not count as memory of those that read.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import bare
from benchmarks.corpus import made_images
from imagekeep.errors import StoreBusyError, StoreUnavailableError
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 1.0
"""How long those run that run side by side."""

ASKED = 1_000


def wait_for_start() -> None:
    """Say that all is ready, and wait until the others are."""
    print("ready", flush=True)
    sys.stdin.readline()


def truncated_ids() -> Iterator[str]:
    """Give for ever the truncated ids of the first images."""
    return cycle([image.image_id[7:19] for image in made_images(ASKED)])


def read(path: Path) -> dict[str, Any]:
    """Look truncated ids up for some time."""
    with Reader.open(path) as reader:
        return repeat(reader.get, truncated_ids())


def read_bare(path: Path) -> dict[str, Any]:
    """Do the same by the bare driver."""
    with contextlib.closing(bare.connect_to(path)) as connection:
        return repeat(lambda truncated: bare.get_each_by_prefix(connection, [truncated]), truncated_ids())


def memory(path: Path) -> dict[str, Any]:
    """Open a store, resolve, get, and say how many KB of memory are resident then."""
    image = next(made_images(1))
    wait_for_start()
    with Reader.open(path) as reader:
        if reader.get(reader.resolve(image.tag)[7:19]).id != image.image_id:
            raise ValueError("a wrong answer")
        return {"resident": _status("VmRSS")}


def iterate(path: Path) -> dict[str, Any]:
    """Read every image one by one, and say how many KB of memory were resident at the most."""
    wait_for_start()
    with Reader.open(path) as reader:
        return {"images": sum(1 for _ in reader.iter()), "resident": _status("VmHWM")}


def repeat(action: Callable[[Any], object], subjects: Iterator[Any]) -> dict[str, Any]:
    """Do something for some time; say how often, how long each took, and how often it was locked."""
    clock, latencies, locked = time.perf_counter, [], 0
    action(next(subjects))
    wait_for_start()
    finish = clock() + SECONDS
    started = clock()
    while started < finish:
        try:
            action(next(subjects))
        except (StoreBusyError, StoreUnavailableError):
            locked += 1
        ended = clock()
        latencies.append(ended - started)
        started = ended
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "each_second": len(latencies) / SECONDS,
        "p50": cuts[49],
        "p99": cuts[98],
        "longest": max(latencies),
        "locked": locked,
    }


def _status(field: str) -> int:
    """Return a figure of this process, in KB (proc(5), /proc/pid/status)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise ValueError(f"/proc/self/status has no {field}")


ROLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "read": read,
    "read-bare": read_bare,
    "memory": memory,
    "iterate": iterate,
}

if __name__ == "__main__":
    role, store = sys.argv[1:]
    print(json.dumps(ROLES[role](Path(store))))
