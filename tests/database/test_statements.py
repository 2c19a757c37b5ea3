"""Named statements: each prepares against the migrated schema, and look-ups use an index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from imagekeep import Store, schema
from imagekeep.database import (
    check_statements,
    content_statements,
    feed_statements,
    look_statements,
    statements,
    status_statements,
    target_statements,
    write_statements,
)
from imagekeep.internals import apply_all
from tests.database.rows import opened
from tests.model import IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imagekeep.database.driver import sqlite


def names_in(statement: str) -> list[str]:
    """Return the names of a statement's parameters."""
    return re.findall(r":(\w+)", re.sub("'[^']*'", "''", statement))


MODULES = (
    statements,
    check_statements,
    content_statements,
    feed_statements,
    look_statements,
    status_statements,
    target_statements,
    write_statements,
)
NAMED = {
    name: text
    for module in MODULES
    for name, text in vars(module).items()
    if name.isupper() and not name.startswith("_") and isinstance(text, str)
}
WRITES = {name: text for name, text in NAMED.items() if names_in(text)}
SELECTS = {name: text for name, text in NAMED.items() if text.lstrip().startswith("SELECT")}

LOOK_UPS = {
    "RESOLVE": ("references", "images"),
    "RESOLVE_FOR": ("references", "images", "platforms"),
    "REFERENCE_STATE": (
        *("references", "images", "pinned_refs", "ref_cache"),
        *("blobs", "targets", "target_manifests"),
    ),
    "IDS_IN_RANGES": ("images",),
    "IDS_IN_RANGE": ("images",),
    "COUNT_IN_RANGE": ("images",),
    "IMAGE": ("images", "documents"),
    "ONLY_IMAGE": ("images", "documents"),
    "REFERENCES_OF_IMAGE": ("references", "pinned_refs"),
    "IS_PINNED": ("pinned_refs", "images"),
    "HISTORY_OF_REFERENCE": ("reference_history",),
}
"""Statements about one image or reference, and the tables they search."""


def arguments_of(statement: str) -> Sequence[str] | dict[str, str]:
    """Return arguments for a statement, by position or name."""
    if names := names_in(statement):
        return dict.fromkeys(names, "x")
    numbered = {int(number) for number in re.findall(r"\?(\d+)", statement)}
    return ("x",) * (max(numbered) if numbered else statement.count("?"))


def plan_of(connection: sqlite.Connection, statement: str) -> list[str]:
    """Return the lines of SQLite's query plan for a statement."""
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments_of(statement))
    return [detail for *_, detail in rows]


@pytest.mark.parametrize("name", NAMED)
def test_a_statement_prepares_against_the_migrated_schema(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        connection.execute(f"EXPLAIN {NAMED[name]}", arguments_of(NAMED[name]))


TABLES = {table.name: set(table.columns.keys()) for table in schema.metadata.tables.values()}


@pytest.mark.parametrize("name", WRITES)
def test_the_parameters_of_a_write_are_columns_of_the_tables_it_names(name: str) -> None:
    named = [table for table in TABLES if re.search(rf"\b{table}\b", WRITES[name])]
    columns = set().union(*(TABLES[table] for table in named))
    columns |= {name.removesuffix("key") + "digest" for name in columns if name.endswith("_key")}
    assert named
    assert set(names_in(WRITES[name])) <= columns


@pytest.mark.parametrize("name", [name for name, text in WRITES.items() if "INSERT" in text])
def test_an_insert_names_columns_of_its_table_and_every_required_one(name: str) -> None:
    match = re.search(r'INTO "?(\w+)"? \(([\w\s,]+)\)', WRITES[name])
    assert match
    given, table = set(re.findall(r"\w+", match[2])), schema.metadata.tables[match[1]]
    required = {c.name for c in table.columns if not (c.nullable or c.primary_key or c.server_default)}
    assert required <= given <= TABLES[match[1]]


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "analyzed"])
@pytest.mark.parametrize("name", LOOK_UPS)
def test_a_look_up_searches_every_table_with_an_index(store_path: Path, name: str, filled: bool) -> None:
    with opened(store_path) as connection:
        if filled:
            with Store.open(store_path) as store:
                apply_all(store, {image.id: image for image in IMAGES})
            connection.execute("ANALYZE")
        plan = plan_of(connection, NAMED[name])
    searched = [re.match(r"SEARCH (\w+) USING .*(INDEX|PRIMARY KEY)", line) for line in plan]
    assert {match[1] for match in searched if match} == set(LOOK_UPS[name])
    assert not [line for line in plan if line.startswith("SCAN") and "(subquery" not in line]


@pytest.mark.parametrize(
    "name",
    [
        "CHAINS_OF_REFERENCE",
        "CONTAINERS_OF_IMAGE",
        "IMAGE_OF_NAME",
        "RECORD_LAST_USE",
        "RECORD_USE",
        "REFERENCES_LACKING_DOCUMENT",
        "SET_PRESENCE",
        "SET_UNPACKED",
        "USAGE",
    ],
)
def test_what_is_beneath_one_reference_or_image_is_found_without_a_scan(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        plan = plan_of(connection, NAMED[name])
    scanned = {match[1] for line in plan if (match := re.match(r"SCAN (\w+)", line))}
    assert not scanned & (TABLES.keys() - {"platforms"})


def test_the_range_of_a_truncated_id_uses_only_the_index(store_path: Path) -> None:
    with opened(store_path) as connection:
        plan = plan_of(connection, statements.IDS_IN_RANGES)
    ranges = [line for line in plan if "COVERING INDEX" in line and "id>? AND id<?" in line]
    assert len(ranges) == 3


def test_streaming_in_order_of_id_needs_no_sorting(store_path: Path) -> None:
    with opened(store_path) as connection:
        plan = plan_of(connection, statements.IMAGES_BY_ID)
    assert not [line for line in plan if "TEMP B-TREE" in line]


@pytest.mark.parametrize("name", SELECTS)
def test_no_statement_scans_a_table_for_each_row_of_another(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        plan = plan_of(connection, SELECTS[name])
    correlated = (
        plan.index("CORRELATED SCALAR SUBQUERY 1") if "CORRELATED SCALAR SUBQUERY 1" in plan else None
    )
    scans = [line for line in plan if re.match(r"SCAN (?!CONSTANT ROW|\(subquery)", line)]
    if name not in ("COUNTS", "BLOBS_WRONGLY_COUNTED", "CHAINS_WRONGLY_COUNTED"):
        assert len(scans) <= 1
    assert correlated is None or not [line for line in plan[correlated:] if line.startswith("SCAN")]
