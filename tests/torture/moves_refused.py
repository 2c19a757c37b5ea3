"""Faults that a migration meets: no space, at any moment, and rows that the new schema forbids."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagekeep.database.create import read_revision
from imagekeep.database.driver import sqlite
from imagekeep.database.revision import HEAD
from tests.torture.bench import REFUSALS, Bench, fill, is_named, mounted
from tests.torture.commands import run
from tests.torture.report import Harm

if TYPE_CHECKING:
    from pathlib import Path

OLD = "0001"


def no_space_for_the_backup(bench: Bench) -> None:
    """A migration that cannot copy the store first changes nothing, and works once there is space."""
    with mounted(bench, "1m"):
        bench.store(revision=OLD)
        filler = fill(bench, 8192)
        bench.refused(("db", "migrate"), words="full")
        filler.unlink()
        _require(bench, OLD)
        bench.works(("db", "migrate"), ("db", "check"))


def no_space_for_the_move(bench: Bench) -> None:
    """A migration that runs out of space at any moment is refused, and works once there is space."""
    with mounted(bench, "2m"):
        for leave in (*range(0, 400_000, 40_960), bench.draw.randrange(400_000)):
            bench.store(revision=OLD)
            rows = rows_of(bench.path)
            filler = fill(bench, leave)
            outcome = run(bench.path, "db", "migrate")
            filler.unlink()
            if outcome.code and (outcome.code not in REFUSALS or not is_named(outcome, "full")):
                bench.seen.append((Harm.CRASHED, f"{leave} left: {outcome}"))
            _require(bench, OLD if outcome.code else HEAD)
            if outcome.code and list(bench.directory.glob("*.backup*")):
                bench.seen.append((Harm.BROKEN, f"{leave} left: a copy of what did not move is left"))
            if rows_of(bench.path) != rows:
                bench.seen.append((Harm.LOST, f"{leave} left: other rows than before"))
            bench.works(("db", "migrate"), ("db", "check"))
            for entry in bench.directory.iterdir():
                entry.unlink()


def forbidden_row(bench: Bench) -> None:
    """A row that the new schema forbids is named and stops the move, which works once the row is gone."""
    bench.store(revision=OLD)
    with contextlib.closing(sqlite.connect(bench.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO configs VALUES (77, x'7b7d')")
    bench.refused(
        ("db", "migrate"), words="row 77 of table configs lacks its row of images; nothing was changed"
    )
    _require(bench, OLD)
    with contextlib.closing(sqlite.connect(bench.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM configs WHERE image_key = 77")
    bench.works(("db", "migrate"), ("db", "check"))


def rows_of(path: Path) -> list[list[tuple[object, ...]]]:
    """Return the rows of the tables that every revision has."""
    with contextlib.closing(sqlite.connect(path)) as connection:
        return [
            connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
            for table in ("images", "configs", "references", "pinned_refs", "ref_cache")
        ]


def _require(bench: Bench, revision: str) -> None:
    """Note it where the store is of another revision."""
    if (found := read_revision(bench.path)) != revision:
        bench.seen.append((Harm.BROKEN, f"the store is at revision {found}, not {revision}"))
