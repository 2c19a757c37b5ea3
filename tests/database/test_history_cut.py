"""Cuts of the history: what is removed, what stays, and that nothing else removes a row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from imagekeep import InvalidArgumentError, Store
from imagekeep.database.driver import sqlite
from imagekeep.database.history import references_as_of
from imagekeep.database.history_cut import history_cuts
from imagekeep.errors import NotFoundError
from imagekeep.times import from_microseconds
from tests.database.rows import opened, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.history_cut import HistoryCut

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"

CHANGES = (
    ("app:1", A, "new", 10),
    ("app:1", B, "moved", 20),
    ("gone", A, "new", 10),
    ("gone", A, "vanished", 25),
    ("app:1", A, "moved", 40),
    ("gone", B, "new", 50),
    ("gone", B, "vanished", 60),
)


@pytest.fixture
def store(store_path: Path) -> Path:
    with opened(store_path) as connection:
        connection.executemany(
            "INSERT INTO reference_history (reference, image_id, event, at, pinned) VALUES (?, ?, ?, ?, 0)",
            CHANGES,
        )
    return store_path


def cut(path: Path, older_than: int, *, keep_last: bool = False, dry_run: bool = False) -> int:
    with Store.open(path) as store:
        return store.prune_history(from_microseconds(older_than), keep_last=keep_last, dry_run=dry_run)


def left(path: Path) -> list[int]:
    with opened(path) as connection:
        return [sequence for sequence, *_ in rows_of(connection, "reference_history")]


def cuts(path: Path) -> list[HistoryCut]:
    with opened(path) as connection:
        return history_cuts(connection.cursor())


def test_what_a_reference_was_at_the_time_of_the_cut_stays(store: Path) -> None:
    assert cut(store, 30) == 3
    assert left(store) == [2, 5, 6, 7]


def test_the_last_row_of_a_vanished_reference_stays_on_request(store: Path) -> None:
    assert cut(store, 30, keep_last=True) == 2
    assert left(store) == [2, 4, 5, 6, 7]


def test_the_newest_row_stays_so_that_its_sequence_is_not_given_again(store: Path) -> None:
    cut(store, 100)
    assert left(store) == [5, 7]


def test_every_time_after_the_cut_has_the_answers_of_before(store: Path) -> None:
    def answers() -> list[set[tuple[str, str]]]:
        with opened(store) as connection:
            cursor = connection.cursor()
            return [
                {(past.reference, past.image_id) for past in references_as_of(cursor, at)}
                for at in range(30, 70, 5)
            ]

    before = answers()
    cut(store, 30)
    assert answers() == before


def test_a_time_before_the_cut_is_unknown(store: Path) -> None:
    cut(store, 30)
    with opened(store) as connection, pytest.raises(NotFoundError, match="the history begins at 1970"):
        references_as_of(connection.cursor(), 25)


def test_a_cut_leaves_a_row_that_says_what_was_removed(store: Path) -> None:
    cut(store, 30)
    (found,) = cuts(store)
    assert (found.older_than, found.removed) == (from_microseconds(30), 3)


def test_a_dry_run_removes_nothing(store: Path) -> None:
    assert cut(store, 30, dry_run=True) == 3
    assert len(left(store)) == len(CHANGES)
    assert cuts(store) == []


def test_a_cut_that_removes_nothing_leaves_no_row(store: Path) -> None:
    assert cut(store, 5) == 0
    assert cuts(store) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM reference_history WHERE sequence = 2",
        "UPDATE reference_history SET at = 0",
        "INSERT OR REPLACE INTO reference_history VALUES (2, 'a', 'b', NULL, 0, 'new', 0, NULL, NULL)",
        "DELETE FROM history_cuts",
        "UPDATE history_cuts SET removed = 0",
    ],
)
def test_after_a_cut_the_history_is_still_append_only(store: Path, statement: str) -> None:
    cut(store, 30)
    with opened(store) as connection, pytest.raises(sqlite.IntegrityError, match="append-only"):
        connection.execute(statement)


def test_a_cut_cannot_remove_the_last_row_of_what_exists(store: Path) -> None:
    with opened(store) as connection:
        connection.execute("INSERT INTO history_cuts (older_than, at) VALUES (100, 0)")
        with pytest.raises(sqlite.IntegrityError, match="append-only"):
            connection.execute("DELETE FROM reference_history WHERE sequence = 5")


@pytest.mark.parametrize(
    "time", [datetime(2020, 1, 1), datetime.now(UTC) + timedelta(days=1)], ids=["no zone", "future"]
)
def test_a_time_that_cannot_be_meant_is_refused(store: Path, time: datetime) -> None:
    with Store.open(store) as opened_store, pytest.raises(InvalidArgumentError):
        opened_store.prune_history(time)
