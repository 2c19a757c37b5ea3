"""Measures other programs beside imagekeep: listing all images, and looking up one by name or truncated id.

Each holds the same facts of the same images and is used as its documentation shows. A library has its store open,
as in a daemon; a command runs from start to exit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import peer_commands, peer_libraries
from benchmarks.corpus import made_images
from benchmarks.measure import timed
from benchmarks.reads import TRUNCATED
from benchmarks.report import duration, markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from benchmarks.corpus import MadeImage
    from benchmarks.peer_libraries import Peer

ROUNDS = 5
ASKED = 5
"""Images looked up in a round."""

_COLUMNS = ("peer", "version", "images", "list all", "one by name", f"one by {TRUNCATED}-digit id")


class Kind(NamedTuple):
    """A program to compare with: its name, its version, and how to open it with some images.

    `version` raises ImportError or FileNotFoundError if the program is not installed. `opened` takes a directory
    kept between runs, a temporary one, and the number of images.
    """

    name: str
    version: Callable[[], str]
    opened: Callable[[Path, Path, int], AbstractContextManager[Peer]]


KINDS = (
    Kind("imagekeep, library", lambda: peer_libraries.version("imagekeep"), peer_libraries.imagekeep),
    Kind("LMDB", lambda: peer_libraries.version("lmdb"), peer_libraries.lmdb),
    Kind("sqlite-utils", lambda: peer_libraries.version("sqlite-utils"), peer_libraries.sqlite_utils),
    Kind("diskcache", lambda: peer_libraries.version("diskcache"), peer_libraries.diskcache),
    Kind("TinyDB, in memory", lambda: peer_libraries.version("tinydb"), peer_libraries.tinydb),
    Kind(
        "`imagekeep images -q`, `image inspect`",
        lambda: peer_libraries.version("imagekeep"),
        peer_commands.imagekeep,
    ),
    Kind("`ctr images ls -q`", peer_commands.ctr_version, peer_commands.ctr),
    Kind(
        "`containers-storage images`, `image`",
        peer_commands.containers_storage_version,
        peer_commands.containers_storage,
    ),
    Kind("`crictl images -q`, `inspecti`", peer_commands.crictl_version, peer_commands.crictl),
)


def table(directory: Path, counts: list[int]) -> str:
    """Measure every installed peer; return a Markdown table, and which are missing."""
    lines: list[tuple[str, ...]] = [_COLUMNS]
    missing = []
    for kind in KINDS:
        try:
            version = kind.version()
        except (ImportError, FileNotFoundError):
            missing.append(kind.name)
            continue
        for count in counts:
            with tempfile.TemporaryDirectory() as own, kind.opened(directory, Path(own), count) as peer:
                lines.append((kind.name, version, f"{count:,}", *_measured(kind.name, peer, count)))
                print("  ".join(lines[-1]), file=sys.stderr)
    ending = f"\n\nNot measured because not installed: {', '.join(missing)}." if missing else ""
    return markdown(lines) + ending


def _measured(name: str, peer: Peer, count: int) -> tuple[str, str, str]:
    """Return the times of the three operations, after checking their answers."""
    images = list(made_images(count))
    some = images[:: count // ASKED][:ASKED]
    listed = peer.list()
    if any(image.image_id not in listed for image in images):
        raise ValueError(f"{name}: an image is missing from its list")
    _check(name, peer, some)
    return (
        duration(_median(lambda: peer.list(), 1)),
        duration(_median(lambda: [peer.by_name(image.tag) for image in some], len(some))),
        duration(_median(lambda: [peer.by_truncated(_truncated(image)) for image in some], len(some))),
    )


def _check(name: str, peer: Peer, images: list[MadeImage]) -> None:
    for image in images:
        for answer in (peer.by_name(image.tag), peer.by_truncated(_truncated(image))):
            if image.image_id[7:] not in answer:
                raise ValueError(f"{name}: wrong answer")


def _truncated(image: MadeImage) -> str:
    return image.image_id[7 : 7 + TRUNCATED]


def _median(action: Callable[[], object], operations: int) -> float:
    return statistics.median(timed(action) for _ in range(ROUNDS)) / operations
