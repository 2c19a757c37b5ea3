"""Queries of images and states: which statements they run, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import ImageNotFoundError, InvalidArgumentError, Store
from imagekeep.database import queries
from imagekeep.internals import apply_all
from imagekeep.transition import ReferenceState
from tests.database.rows import opened
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite

ONE, TWO = IMAGES[:2]
NAME = "docker.io/library/busybox:1"


@pytest.fixture
def cursor(store_path: Path) -> Iterator[sqlite.Cursor]:
    """A cursor on a store of every image of the model, each with three references."""
    with Store.open(store_path, platform=PLATFORM) as store:
        apply_all(store, {f"app:{each}-{number}": i for number, i in enumerate(IMAGES) for each in "abc"})
        store.apply(NAME, ONE)
        store.pin(ONE.id, NAME)
    with opened(store_path) as connection:
        yield connection.cursor()


def statements_of(cursor: sqlite.Cursor, query: Callable[[], object]) -> list[str]:
    """Return the statements that a query runs."""
    ran: list[str] = []
    cursor.connection.set_trace_callback(ran.append)
    query()
    cursor.connection.set_trace_callback(None)
    return ran


@pytest.mark.parametrize("query", [queries.all_images, queries.all_summaries])
def test_a_list_is_three_statements_for_any_number_of_images(
    cursor: sqlite.Cursor, query: Callable[[sqlite.Cursor], list[object]]
) -> None:
    assert len(statements_of(cursor, lambda: query(cursor))) == 3
    assert len(query(cursor)) == len(IMAGES)


def test_the_states_of_all_references_are_one_statement(cursor: sqlite.Cursor) -> None:
    assert len(statements_of(cursor, lambda: queries.all_states(cursor))) == 1


def test_a_full_id_is_found_without_a_range(cursor: sqlite.Cursor) -> None:
    assert len(statements_of(cursor, lambda: queries.find_image(cursor, ONE.id))) == 2


def test_a_truncated_id_is_found_by_one_range_statement(cursor: sqlite.Cursor) -> None:
    assert len(statements_of(cursor, lambda: queries.find_id(cursor, ONE.id[7:20]))) == 1


@pytest.mark.parametrize("query", ["x", "ABC", "md5:ab", "sha256:zz", ONE.id + "0", "%", "_", "*"])
def test_an_unknown_truncated_id_is_not_found(cursor: sqlite.Cursor, query: str) -> None:
    with pytest.raises(ImageNotFoundError):
        queries.find_id(cursor, query)


def test_an_invalid_id_is_not_looked_up(cursor: sqlite.Cursor) -> None:
    def look_up() -> None:
        with pytest.raises(ImageNotFoundError):
            queries.find_id(cursor, "not hex")

    assert statements_of(cursor, look_up) == []


def test_the_empty_id_is_not_looked_up(cursor: sqlite.Cursor) -> None:
    with pytest.raises(InvalidArgumentError):
        queries.find_id(cursor, "")


def test_the_state_of_a_reference(cursor: sqlite.Cursor) -> None:
    assert queries.state_of(cursor, NAME) == ReferenceState(ONE.id, True, ONE.target_digest, None)


@pytest.mark.parametrize("name", ["", "busybox:1", NAME.upper(), "\ud800", "a\x00b"])
def test_an_unknown_reference_has_no_state(cursor: sqlite.Cursor, name: str) -> None:
    assert queries.state_of(cursor, name) is None
    assert queries.find_reference(cursor, name) is None


def test_iterating_yields_the_images_of_a_list(cursor: sqlite.Cursor) -> None:
    assert list(queries.each_image(cursor)) == queries.all_images(cursor)


def test_any_spelling_of_a_full_digest_is_an_id_and_never_a_reference(cursor: sqlite.Cursor) -> None:
    with pytest.raises(ImageNotFoundError):
        queries.find_by_any_name(cursor, f"sha256:{'0' * 64}")
    assert queries.find_by_any_name(cursor, TWO.id).id == TWO.id
