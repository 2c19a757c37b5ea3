"""Measures the size of the file against the facts in it, and the time of `db check`."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from benchmarks import bare
from benchmarks.measure import Figure, Row, cost
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FACTS = """
SELECT
    (SELECT sum(length(id) + length(chain_id) + 4) FROM images)
    + (SELECT sum(length(document)) FROM documents)
    + (SELECT sum(length(digest) + length(media_type) + 6) FROM blobs)
    + (SELECT sum(length(chain_id) + length(diff_id)) FROM chains)
    + (SELECT count(*) * 8 FROM manifest_layers)
    + (SELECT sum(length(platform) + 8) FROM target_manifests)
    + (SELECT sum(length(image_id) + 8) FROM image_usage)
    + (SELECT sum(length(name) + 4) FROM "references")
    + (SELECT count(*) FROM pinned_refs)
    + (SELECT sum(length(target_digest) + 8) FROM ref_cache)
    + (SELECT sum(length(reference) + length(image_id) + length(target_digest) + length(event)
        + length(platform) + 13) FROM reference_history)
"""
"""The bytes of the facts: a name counts once for the reference, and once for its history."""


def size(path: Path, count: int) -> Iterator[Row]:
    """Measure the size of the file against that of the facts."""
    with contextlib.closing(bare.connect_to(path)) as connection:
        facts = connection.execute(_FACTS).fetchone()[0]
    bytes_of_file = path.stat().st_size
    yield Row(
        f"file size / size of the facts, {count:,} images",
        Figure(bytes_of_file / facts, 0),
        at_most=1.3,
        note=f"{bytes_of_file / 1e6:.0f} MB, {facts / 1e6:.0f} MB",
    )


def checks(path: Path, count: int) -> Iterator[Row]:
    """Measure `db check` against reading and hashing the documents."""
    with (
        contextlib.closing(connect(path, read_only=True)) as connection,
        contextlib.closing(bare.connect_to(path)) as baseline,
    ):

        def ours() -> None:
            if problems := list(find_problems(connection)):
                raise ValueError(f"db check: {problems[0]}")

        def theirs() -> None:
            for digest, document in baseline.execute(
                "SELECT digest, document FROM documents JOIN blobs USING (blob_key)"
            ):
                if f"sha256:{hashlib.sha256(document).hexdigest()}" != digest:
                    raise ValueError("wrong document")

        yield cost(
            f"db check against hashing the documents, {count:,} images",
            ours,
            theirs,
            count,
            at_most=1.5,
            rounds=5,
        )
