"""Makes the stores to measure: the real schema, filled in bulk.

Their rows are those that a sync of the same images writes; `db check` verifies the small store.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks.corpus import PLATFORM, MemorySource, made_images
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create
from imagekeep.database.platforms import changes_to
from imagekeep.database.revision import HEAD
from imagekeep.database.writes import write_changes
from imagekeep.observe import observation_of, observe_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.corpus import MadeImage
    from imagekeep.database.driver import sqlite
    from imagekeep.image import Observation

VERIFIED_AT = 1_750_000_000_000_000
_BATCH = 5_000


def store_of(directory: Path, count: int) -> Path:
    """Return the path of a store with the first `count` images; make it if necessary."""
    path = directory / f"{HEAD}-{count}.db"
    if not path.exists():
        partial = path.with_suffix(".partial")
        open_or_create(partial)
        _fill(partial, count)
        for companion in ("-wal", "-shm", "-lock"):
            partial.with_name(partial.name + companion).unlink(missing_ok=True)
        partial.rename(path)
    return path


def check(path: Path) -> None:
    """Raise ValueError if a store breaks an invariant."""
    with contextlib.closing(connect(path, read_only=True)) as connection:
        if problems := [str(problem) for problem in find_problems(connection)]:
            raise ValueError(f"{path}: {problems[:5]}")


def _fill(path: Path, count: int) -> None:
    """Write the images to an empty store, without syncing to disk."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        images = made_images(count)
        for batch in _batches(images):
            connection.execute("BEGIN IMMEDIATE")
            _write(connection, batch)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _write(connection: sqlite.Connection, images: list[MadeImage]) -> None:
    source = MemorySource(images)
    observed: dict[str, Observation] = {}
    for image in images:
        reading = observe_target(image.target, source, (PLATFORM,)).with_presence(source)
        observed |= {record.reference: observation_of(record, reading) for record in image.records()}
    cursor = connection.cursor()
    write_changes(cursor, changes_to(cursor, (PLATFORM,), observed), VERIFIED_AT)


def _batches(images: Iterable[MadeImage]) -> Iterator[list[MadeImage]]:
    rest = iter(images)
    while batch := list(islice(rest, _BATCH)):
        yield batch
