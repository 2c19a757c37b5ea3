"""The statements of questions: each prepares against the migrated schema, and scans only what it says it does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from imagekeep.database import freeing_statements, question_statements
from imagekeep.database.history import define_functions
from tests.database.rows import opened

if TYPE_CHECKING:
    from pathlib import Path

STATEMENTS = {
    name: text
    for name, text in vars(question_statements).items()
    if name.isupper() and text.startswith("\nSELECT") and "history_cuts ORDER" not in text
}

SCANNED = {
    "CHANGES": set(),  # by the primary key, newest first, and no further than the count
    "CHANGES_OF_REFERENCE": set(),
    "CHANGES_OF_IMAGE": {"change"},
    "PAST_IMAGES_IN_RANGE": {"reference_history"},
    "PAST_REFERENCES": {"reference_history"},
    "REFERENCES_AS_OF": {"reference_history"},
    "FIRST_CHANGE": {"reference_history"},
    "IMAGE_SIZES": {"images"},
    "NAMES_OF_IMAGE": set(),
    "CONTAINERS_OF_IMAGE": set(),
    "USAGE_OF_IMAGE": set(),
    "PLATFORM_KEY_OF_IMAGE": set(),
    "CUTS": {"history_cuts"},
    "LAYERS_OF_MANIFEST": set(),
    "SHARED_LAYERS": {"ref_cache"},
}
"""The tables that each statement reads whole; the docstrings of the statements say why."""


def plan_of(path: Path, statement: str) -> list[str]:
    with opened(path) as connection:
        define_functions(connection.cursor())
        names = re.findall(r":(\w+)", statement)
        arguments = (
            dict.fromkeys(names, "[]")
            if names
            else ("x",) * (1 if "?1" in statement else statement.count("?"))
        )
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments)
        return [detail for *_, detail in rows]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_scans_only_the_tables_it_is_known_to(store_path: Path, name: str) -> None:
    plan = plan_of(store_path, STATEMENTS[name])
    scanned = [re.match(r"SCAN (?!json_each|CONSTANT)(\w+)", line) for line in plan]
    assert {match[1] for match in scanned if match} == SCANNED[name]


@pytest.mark.parametrize("name", ["CHANGES", "REFERENCES_AS_OF", "FIRST_CHANGE", "CHANGES_OF_REFERENCE"])
def test_the_history_is_read_in_the_order_of_an_index(store_path: Path, name: str) -> None:
    assert not [line for line in plan_of(store_path, STATEMENTS[name]) if "TEMP B-TREE" in line]


def test_the_names_of_used_images_are_found_from_the_containers(store_path: Path) -> None:
    plan = plan_of(store_path, freeing_statements.COLLECTABLE_IMAGES)
    scanned = [re.match(r"SCAN (\w+)", line) for line in plan]
    assert not {"used", "named", "sibling"} & {match[1] for match in scanned if match}
