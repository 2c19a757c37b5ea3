"""The centre's schema: revisions, partitions, and what a prune leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import CentreVersionError
from imagekeep.fleet import administration
from imagekeep.fleet.administration import migrate, newest_revision, prune, revision
from tests.fleet.nodes import Node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.centres import Centre

PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fleet.past_references'::regclass"
)


def test_head_is_the_newest_revision_of_the_files() -> None:
    assert newest_revision() == administration.HEAD


def test_a_downgrade_to_base_and_an_upgrade_leave_a_working_centre(centre: Centre, tmp_path: Path) -> None:
    node = Node(tmp_path / "images.db", centre.enroll("a"))
    node.change(30)
    node.ship()
    assert migrate(centre.connection, "base").after is None
    assert centre.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'fleet'::regnamespace AND relkind = 'r'"
    ) == [("alembic_version",)]
    assert revision(centre.connection) is None
    migrate(centre.connection)
    node.parameters = centre.enroll("a")
    node.ship()
    assert centre.one("SELECT count(*) FROM fleet.node_references") == len(node.state())


MANY_ROWS = """
INSERT INTO fleet.past_references
SELECT mod(n, 100) + 1, mod(n, 1000), mod(n, 1000), 1, n, n + 1, at - interval '1 hour', at, NULL, false
FROM (SELECT n, now() - n * interval '1 minute' AS at FROM generate_series(1, %s) AS n) AS made;
"""


def test_many_rows_migrate_down_and_up_and_move_into_their_partitions(centre: Centre) -> None:
    """200,000 rows are 139 days of the past, of which only this month has its partition at first."""
    centre.connection.execute(MANY_ROWS, (200_000,))
    unplaced = centre.one("SELECT count(*) FROM fleet.past_references_default")
    assert unplaced > 100_000
    assert migrate(centre.connection).partitions >= 4
    assert centre.one("SELECT count(*) FROM fleet.past_references_default") == 0
    assert centre.one("SELECT count(*) FROM fleet.past_references") == 200_000
    assert migrate(centre.connection, "base").after is None
    migrate(centre.connection)
    assert centre.one("SELECT count(*) FROM fleet.past_references") == 0


def test_a_newer_schema_is_refused(centre: Centre) -> None:
    centre.connection.execute("UPDATE fleet.alembic_version SET version_num = '9999'")
    with pytest.raises(CentreVersionError, match="is newer"):
        migrate(centre.connection)


def test_partitions_of_this_month_and_the_next_ones_exist(centre: Centre) -> None:
    months = {f"fleet.past_references_{datetime.now(UTC):%Y_%m}", "fleet.past_references_default"}
    found = {name for (name,) in centre.rows(PARTITIONS)}
    assert months <= found
    assert len(found) == administration.PARTITIONS_AHEAD + 2


def test_rows_that_came_before_their_partition_move_into_it(centre: Centre) -> None:
    centre.connection.execute(
        "INSERT INTO fleet.past_references SELECT 1, 1, 1, 1, 1, 2, now() + interval '200 days', "
        "now() + interval '201 days', NULL, false"
    )
    assert centre.one("SELECT count(*) FROM fleet.past_references_default") == 1
    centre.connection.execute("SELECT fleet.make_partitions(12)")
    assert centre.one("SELECT count(*) FROM fleet.past_references_default") == 0
    assert centre.one("SELECT count(*) FROM fleet.past_references") == 1


def test_a_prune_drops_the_partitions_of_the_old_past(centre: Centre) -> None:
    old = datetime.now(UTC) - timedelta(days=200)
    for end in (old, datetime.now(UTC)):
        centre.connection.execute(
            "INSERT INTO fleet.past_references VALUES (1, 1, 1, 1, 1, 2, %s, %s, NULL, false)",
            (end - timedelta(days=1), end),
        )
    centre.connection.execute("SELECT fleet.make_partitions(3)")
    before = len(centre.rows(PARTITIONS))
    assert prune(centre.connection, datetime.now(UTC) - timedelta(days=90)).ranges == 1
    assert centre.one("SELECT count(*) FROM fleet.past_references") == 1
    assert len(centre.rows(PARTITIONS)) < before
