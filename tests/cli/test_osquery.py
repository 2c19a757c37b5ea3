"""The tables for osquery, read as osquery reads them: without locks, and so without a WAL."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database.driver import sqlite
from imagekeep.database.newest_schema import STATEMENTS
from tests.cli.session import run_line

if TYPE_CHECKING:
    from tests.cli.conftest import Run

CHECKOUT = Path(__file__).parents[2]
TABLES: dict[str, dict[str, Any]] = json.loads(
    (CHECKOUT / "packaging/osquery/imagekeep.json").read_text(encoding="utf-8")
)["auto_table_construction"]
MAY_BE_EMPTY = ("container_list", "gc_list", "incomplete_list", "usage_list")
"""Views without a row for a store of a layout that has no containers."""

PATH = "/var/lib/imagekeep/osquery.db"


def read(path: Path, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the columns and rows of a query, through the VFS that osquery uses (sqlite_util.cpp)."""
    with closing(sqlite.connect(f"file:{path}?mode=ro&vfs=unix-none", uri=True)) as connection:
        cursor = connection.execute(query)
        return [column[0] for column in cursor.description], cursor.fetchall()


@pytest.mark.parametrize("name", TABLES)
def test_each_query_gives_its_columns(run: Run, directory: Path, name: str) -> None:
    assert run("db", "export", "osquery.db").code == 0
    columns, rows = read(directory / "osquery.db", TABLES[name]["query"])
    assert columns == TABLES[name]["columns"]
    view = TABLES[name]["query"].rpartition(" ")[2]
    assert rows or view in MAY_BE_EMPTY


def test_tables_are_those_of_the_export(run: Run, directory: Path) -> None:
    run("db", "export", "osquery.db")
    _, rows = read(directory / "osquery.db", TABLES["imagekeep_images"]["query"])
    assert {row[0] for row in rows} == set(run("images", "-q").lines)


def test_every_view_is_a_table() -> None:
    views = {name for text in STATEMENTS for name in re.findall(r"CREATE VIEW (\w+)", text)}
    assert {re.search(r"FROM (\w+)$", table["query"])[1] for table in TABLES.values()} == views  # type: ignore[index]


def test_the_live_file_cannot_be_read_without_locks(directory: Path) -> None:
    with pytest.raises(sqlite.OperationalError, match="unable to open database file"):
        read(directory / "images.db", "SELECT 1 FROM image_list")


def test_documented_command_replaces_the_export_again_and_again(directory: Path) -> None:
    text = (CHECKOUT / "docs/operations.md").read_text(encoding="utf-8")
    line = re.search(r"^    (imagekeep db export \S*osquery\.db.*)$", text, re.MULTILINE)
    assert line
    command = line[1].replace("/var/lib/imagekeep/", "")
    assert run_line(f"{command} && {command} && echo worked", directory).splitlines()[-1] == "worked"
    assert [path.name for path in directory.glob("osquery*")] == ["osquery.db"]
    assert {table["path"] for table in TABLES.values()} == {PATH}
    assert PATH in text
