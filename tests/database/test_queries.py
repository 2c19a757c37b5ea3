"""Images and states made of rows: what is asked of SQLite for them, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import ImageNotFoundError, InvalidArgumentError, Store
from imagekeep.database import queries
from imagekeep.transition import State
from tests.database.rows import opened
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite

ONE, TWO = IMAGES[:2]
NAME = "docker.io/library/busybox:1"


@pytest.fixture
def connection(store_path: Path) -> Iterator[sqlite.Connection]:
    """A connection to a store of every image of the model, each with three references."""
    with Store.open(store_path, platform=PLATFORM) as store:
        store.apply_all({f"app:{each}-{number}": i for number, i in enumerate(IMAGES) for each in "abc"})
        store.apply(NAME, ONE)
        store.pin(ONE.id, NAME)
    with opened(store_path) as opened_connection:
        yield opened_connection


def statements_of(connection: sqlite.Connection, query: Callable[[], object]) -> list[str]:
    """Return the statements that a query runs."""
    ran: list[str] = []
    connection.set_trace_callback(ran.append)
    query()
    connection.set_trace_callback(None)
    return ran


@pytest.mark.parametrize("query", [queries.all_images, queries.all_summaries])
def test_a_list_is_three_statements_however_many_images_there_are(
    connection: sqlite.Connection, query: Callable[[sqlite.Connection], list[object]]
) -> None:
    assert len(statements_of(connection, lambda: query(connection))) == 3
    assert len(query(connection)) == len(IMAGES)


def test_the_states_of_all_references_are_one_statement(connection: sqlite.Connection) -> None:
    assert len(statements_of(connection, lambda: queries.all_states(connection))) == 1


def test_a_whole_id_is_found_without_a_range(connection: sqlite.Connection) -> None:
    assert len(statements_of(connection, lambda: queries.find_image(connection, ONE.id))) == 2


def test_a_truncated_id_is_found_by_one_range_statement(connection: sqlite.Connection) -> None:
    assert len(statements_of(connection, lambda: queries.find_id(connection, ONE.id[7:20]))) == 1


@pytest.mark.parametrize("query", ["x", "ABC", "md5:ab", "sha256:zz", ONE.id + "0", "%", "_", "*"])
def test_what_no_id_begins_with_is_not_found(connection: sqlite.Connection, query: str) -> None:
    with pytest.raises(ImageNotFoundError):
        queries.find_id(connection, query)


def test_what_has_no_range_is_not_looked_up(connection: sqlite.Connection) -> None:
    def look_up() -> None:
        with pytest.raises(ImageNotFoundError):
            queries.find_id(connection, "not hex")

    assert statements_of(connection, look_up) == []


def test_the_empty_id_is_not_looked_up(connection: sqlite.Connection) -> None:
    with pytest.raises(InvalidArgumentError):
        queries.find_id(connection, "")


def test_the_state_of_a_reference(connection: sqlite.Connection) -> None:
    assert queries.state_of(connection, NAME) == State(ONE.id, True, ONE.target_digest, PLATFORM)


@pytest.mark.parametrize("name", ["", "busybox:1", NAME.upper(), "\ud800", "a\x00b"])
def test_what_is_no_reference_has_no_state(connection: sqlite.Connection, name: str) -> None:
    assert queries.state_of(connection, name) is None
    assert queries.find_reference(connection, name) is None


def test_images_come_one_by_one_as_they_come_in_a_list(connection: sqlite.Connection) -> None:
    assert list(queries.each_image(connection)) == queries.all_images(connection)


def test_any_name_of_a_whole_digest_is_an_id_and_never_a_reference(connection: sqlite.Connection) -> None:
    with pytest.raises(ImageNotFoundError):
        queries.find_by_any_name(connection, f"sha256:{'0' * 64}")
    assert queries.find_by_any_name(connection, TWO.id).id == TWO.id
