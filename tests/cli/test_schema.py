"""`imagekeep schema`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagekeep import schema
from tests.database.rows import opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_every_view_and_table_of_the_file_is_listed(run: Run, directory: Path) -> None:
    listed = json.loads(run("schema", "-o", "json").out)["schema"]
    with opened(directory / "images.db") as connection:
        made = dict(
            connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('view', 'table')")
        )
    assert {each["name"]: each["kind"] for each in listed} == {
        name: kind for name, kind in made.items() if not name.startswith(("alembic", "sqlite_"))
    }
    assert all(each["meaning"] for each in listed)


def test_the_columns_of_a_view_are_listed_with_types_and_meanings(run: Run) -> None:
    shown = json.loads(run("schema", "-o", "json", "image_list").out)
    assert [each["column"] for each in shown["columns"]] == list(schema.image_list.columns.keys())
    assert (shown["name"], shown["meaning"]) == ("image_list", schema.image_list.comment)
    assert {"column": "pinned", "type": "BOOLEAN", "meaning": schema.image_list.c.pinned.comment} in shown[
        "columns"
    ]


def test_a_table_is_shown_without_a_store(run: Run) -> None:
    result = run("--store", "none.db", "schema", "-n", "images")
    assert (result.code, result.lines[0].split()[:2]) == (0, ["image_key", "INTEGER"])


def test_a_near_name_is_suggested(run: Run) -> None:
    assert (
        run("schema", "image_lst").err
        == "Error: no such view or table: image_lst (did you mean 'image_list'?)\n"
    )
    assert run("schema", "x").err == "Error: no such view or table: x (`imagekeep schema` lists them)\n"
