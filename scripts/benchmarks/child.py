"""A reading process of the benchmark: `python -m benchmarks.child ROLE PATH`.

It prints a line when ready, waits for a line, runs, and prints its result as JSON. Writing is in
`benchmarks.writer`, so that the imports of a writer do not count as memory of readers.
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
"""How long concurrent processes run."""

ASKED = 1_000


def wait_for_start() -> None:
    """Report that this process is ready, and wait for the start."""
    print("ready", flush=True)
    sys.stdin.readline()


def truncated_ids() -> Iterator[str]:
    """Cycle through the truncated ids of the first images."""
    return cycle([image.image_id[7:19] for image in made_images(ASKED)])


def read(path: Path) -> dict[str, Any]:
    """Look up truncated ids."""
    with Reader.open(path) as reader:
        return repeat(reader.get, truncated_ids())


def read_bare(path: Path) -> dict[str, Any]:
    """Look up truncated ids with the bare driver."""
    with contextlib.closing(bare.connect_to(path)) as connection:
        return repeat(lambda truncated: bare.get_each_by_prefix(connection, [truncated]), truncated_ids())


def memory(path: Path) -> dict[str, Any]:
    """Open a store, resolve and get; return the resident memory in KB."""
    image = next(made_images(1))
    wait_for_start()
    with Reader.open(path) as reader:
        if reader.get(reader.resolve(image.tag)[7:19]).id != image.image_id:
            raise ValueError("wrong answer")
        return {"resident": _status("VmRSS")}


def iterate(path: Path) -> dict[str, Any]:
    """Iterate over all images; return the peak resident memory in KB."""
    wait_for_start()
    with Reader.open(path) as reader:
        return {"images": sum(1 for _ in reader.iter()), "resident": _status("VmHWM")}


def repeat(action: Callable[[Any], object], subjects: Iterator[Any]) -> dict[str, Any]:
    """Repeat an action for SECONDS; return its rate, its latencies in seconds, and the number of lock errors."""
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
    """Return a figure of this process in KB (proc(5), /proc/pid/status)."""
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
