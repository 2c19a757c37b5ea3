"""docs/fleet.md: every query runs as a reader, and every view is in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fleet.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.fleet.connection import Connection
    from tests.fleet.centres import Centre

PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^    (SELECT .*);$", PAGE, re.MULTILINE)

CONTRACT = """
SELECT c.relname, obj_description(c.oid) FROM pg_class AS c
WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'v'
UNION ALL
SELECT p.proname, obj_description(p.oid) FROM pg_proc AS p
WHERE p.pronamespace = 'fleet'::regnamespace AND has_function_privilege('imagekeep_reader', p.oid, 'EXECUTE')
"""


@pytest.fixture
def reader(centre: Centre, tmp_path: Path) -> Iterator[Connection]:
    """A connection of a role that only reads, to a centre with a node."""
    node = Node(tmp_path / "images.db", centre.enroll("web-1"))
    node.change(30)
    node.ship()
    centre.connection.execute("CREATE ROLE reading IN ROLE imagekeep_reader")
    with centre.as_role("reading") as connection:
        yield connection
    centre.connection.execute("DROP ROLE reading")


def test_every_documented_query_runs(reader: Connection) -> None:
    assert len(QUERIES) > 10
    for query in QUERIES:
        reader.execute(query.encode())


def test_every_view_and_function_of_the_contract_is_documented(centre: Centre) -> None:
    found = centre.rows(CONTRACT)
    assert [name for name, _ in found if f"`{name}" not in PAGE] == []
    assert [name for name, comment in found if not comment] == []
    assert [name for name, _ in found if not any(f"fleet.{name}" in query for query in QUERIES)] == []


def test_the_columns_in_the_page_exist(centre: Centre) -> None:
    for view in ("node_references", "node_images", "tag_drift"):
        [row] = re.findall(rf"^\| `{view}` \| (.*) \|$", PAGE, re.MULTILINE)
        columns = {
            name
            for (name,) in centre.rows(
                "SELECT attname FROM pg_attribute WHERE attrelid = ('fleet.' || %s)::regclass AND attnum > 0",
                view,
            )
        }
        assert set(re.findall(r"`(\w+)`", row)) <= columns
