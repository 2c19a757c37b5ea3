"""Makes the stores to measure: the real schema, filled in bulk.

Their rows are those that a sync of the same images writes; `db check` verifies the small store.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks.corpus import PLATFORM, made_images
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create
from imagekeep.database.revision import HEAD
from imagekeep.reference import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.corpus import MadeImage
    from imagekeep.database.driver import sqlite

VERIFIED_AT = 1_750_000_000_000_000
_BATCH = 5_000

_ADD_IMAGE = "INSERT INTO images (image_key, id, chain_id, size) VALUES (?, ?, ?, ?)"
_ADD_CONFIG = "INSERT INTO configs (image_key, document) VALUES (?, ?)"
_ADD_REFERENCE = 'INSERT INTO "references" (name, image_key, sort_rank, sort_name) VALUES (?, ?, ?, ?)'
_ADD_PIN = "INSERT INTO pinned_refs (reference, image_key) VALUES (?, ?)"
_ADD_CACHE = """
INSERT INTO ref_cache (reference, image_key, target_digest, platform, verified_at) VALUES (?, ?, ?, ?, ?)
"""
_ADD_HISTORY = """
INSERT INTO reference_history (reference, image_id, target_digest, pinned, event, at)
VALUES (?, ?, ?, ?, 'new', ?)
"""


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
    connection.executemany(_ADD_IMAGE, [(i.number + 1, i.image_id, i.chain_id, i.size) for i in images])
    connection.executemany(_ADD_CONFIG, [(i.number + 1, i.config_json) for i in images])
    named = [(image, name) for image in images for name in image.references]
    connection.executemany(_ADD_REFERENCE, [(n, i.number + 1, *_order(n)) for i, n in named])
    connection.executemany(_ADD_PIN, [(i.tag, i.number + 1) for i in images if i.pinned])
    connection.executemany(
        _ADD_CACHE, [(n, i.number + 1, i.target.digest, PLATFORM, VERIFIED_AT) for i, n in named]
    )
    connection.executemany(
        _ADD_HISTORY,
        [(n, i.image_id, i.target.digest, i.pinned and n == i.tag, VERIFIED_AT) for i, n in named],
    )


def _order(name: str) -> tuple[int, str | None]:
    """Return the sort columns of a reference."""
    rank, canonical = sort_key(name)
    return rank, None if canonical == name else canonical


def _batches(images: Iterable[MadeImage]) -> Iterator[list[MadeImage]]:
    rest = iter(images)
    while batch := list(islice(rest, _BATCH)):
        yield batch
