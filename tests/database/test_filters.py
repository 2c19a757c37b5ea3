"""The plans of filters: which tables each reads whole, besides the images."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.database import filter_statements, freeing_statements
from imagekeep.database.filters import compile_filters
from imagekeep.database.history import define_functions
from imagekeep.internals import apply_all
from imagekeep.questions.filters import KEYS, parse_filters
from tests.database.rows import opened
from tests.model import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.database.driver import sqlite

SCANNED = {
    "reference=x*": {"references"},
    "id=ab": set(),
    "digest=ab": set(),
    "layer=ab": {"chains", "ref_cache"},
    "label=x": set(),
    "platform=linux/amd64": {"ref_cache", "target_manifests"},
    "registry=x": {"references"},
    "repository=x": {"references"},
    "dangling=true": {"references"},
    "untagged=true": {"references"},
    "pinned=true": {"pinned_refs"},
    "in-use=true": {"containers"},
    "before=IMAGE": {"images"},
    "since=IMAGE": {"images"},
    "until=now": {"images"},
    "created>1h": {"images"},
    "first-seen>1h": {"image_usage"},
    "unused-for>1h": set(),
    "size>1": set(),
    "state=partial": {"manifest_layers", "blobs", "ref_cache"},
}
"""A filter of each key, and what it reads whole once: the docstrings of the conditions say why."""


def filled(path: Path) -> str:
    """Fill a store and return a name of one of its images."""
    with Store.open(path) as store:
        apply_all(store, {f"docker.io/library/app:{number}": image for number, image in enumerate(IMAGES)})
        return store.references()[0]


def plan_of(connection: sqlite.Connection, text: str) -> list[str]:
    cursor = connection.cursor()
    define_functions(cursor)
    [condition] = compile_filters(cursor, parse_filters([text]), time.time_ns())
    statement = filter_statements.images_that_match([condition.sql])
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", ("[0]", *condition.parameters))
    return [detail for *_, detail in rows]


def test_every_key_has_a_plan() -> None:
    assert {re.split("[=<>]", text)[0] for text in SCANNED} == set(KEYS)


@pytest.mark.parametrize("text", SCANNED)
def test_a_filter_reads_whole_only_what_it_must(store_path: Path, text: str) -> None:
    name = filled(store_path)
    with opened(store_path) as connection:
        connection.execute("ANALYZE")
        plan = plan_of(connection, text.replace("IMAGE", name))
    scanned = {match[1] for line in plan if (match := re.match(r"SCAN (\w+)", line))}
    views = {"json_each", "CONSTANT", "written", "layers", "images"}
    assert scanned - views <= SCANNED[text] - views, plan


@pytest.mark.parametrize("text", SCANNED)
def test_a_filter_does_not_scan_a_table_for_each_image(store_path: Path, text: str) -> None:
    name = filled(store_path)
    with opened(store_path) as connection:
        plan = plan_of(connection, text.replace("IMAGE", name))
    correlated = [number for number, line in enumerate(plan) if line.startswith("CORRELATED")]
    assert not [
        line
        for line in plan[min(correlated, default=len(plan)) :]
        if re.match("SCAN (?!json_each|written)", line)
    ]


LISTS = {name: text for name, text in vars(filter_statements).items() if name.startswith("LISTED")}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_prepares_against_the_migrated_schema(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        assert connection.execute(LISTS[name], ("[1]",)).fetchall() == []


@pytest.mark.parametrize("name", ["FREED_CONTENT", "FREED_UNPACKED"])
def test_what_is_freed_prepares_against_the_migrated_schema(store_path: Path, name: str) -> None:
    with opened(store_path) as connection:
        statement = getattr(freeing_statements, name)
        assert connection.execute(statement, {"steps": '[["x", 0]]'}).fetchall() == []
