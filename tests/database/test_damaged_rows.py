"""Rows whose values are not of their columns' types, as a flipped bit in a row's header makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import Reader
from imagekeep.database.check import find_problems
from imagekeep.errors import CorruptStoreError
from tests.database.rows import add_image, opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def damaged(store_path: Path) -> Path:
    """A store in which the rank of one reference is a text, and the name of another a number."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b", "c")
        connection.execute("PRAGMA writable_schema = ON")
        (strict,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'references'").fetchone()
        set_schema = "UPDATE sqlite_schema SET sql = ? WHERE name = 'references'"
        connection.execute(set_schema, (strict.replace("TEXT", "ANY").replace("INTEGER", "ANY"),))
    with opened(store_path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE \"references\" SET sort_rank = 'x' WHERE name = 'a'")
        connection.execute("UPDATE \"references\" SET name = 5 WHERE name = 'b'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(set_schema, (strict,))
    return store_path


def test_a_reader_says_that_the_store_is_damaged(damaged: Path) -> None:
    with Reader.open(damaged) as reader, pytest.raises(CorruptStoreError, match="types of its columns"):
        reader.list()


def test_a_caller_who_gives_another_type_is_told_so_as_ever(store_path: Path) -> None:
    with Reader.open(store_path) as reader, pytest.raises(TypeError):
        reader.get(5)  # type: ignore[arg-type]


def test_the_check_names_the_rows_and_goes_on(damaged: Path) -> None:
    with opened(damaged) as connection:
        found = [str(problem) for problem in find_problems(connection)]

    assert any("non-TEXT value in references.name" in problem for problem in found)
    assert any("the rows after it were not seen" in problem for problem in found)
