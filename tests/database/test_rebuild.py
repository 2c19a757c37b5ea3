from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from alembic import command

from imagekeep.database.create import read_revision
from imagekeep.database.revision import HEAD
from imagekeep.errors import SchemaVersionError
from tests.database.rows import add_image, cache, contents, opened, pin
from tests.database.stores import CHECKOUT, move

if TYPE_CHECKING:
    from pathlib import Path


REBUILD_IMAGES = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "0999", {head!r}, None, None

def upgrade():
    op.execute("CREATE TABLE fresh (image_key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
               " chain_id TEXT NOT NULL, size INTEGER NOT NULL CHECK ({condition}),"
               " platform_key INTEGER NOT NULL DEFAULT 0, config_key INTEGER NOT NULL,"
               " UNIQUE (image_key, platform_key)) STRICT")
    op.execute("INSERT INTO fresh SELECT * FROM images")
    find = ("SELECT type || ' ' || name FROM sqlite_schema"
            " WHERE type IN ('trigger', 'view') AND sql LIKE '%images%'")
    for (found,) in op.get_bind().exec_driver_sql(find).fetchall():
        op.execute(f"DROP {{found}}")
    op.execute("DROP TABLE images")
    op.execute("ALTER TABLE fresh RENAME TO images")

def downgrade():
    pass
"""


def scripts_with(tmp_path: Path, condition: str) -> Path:
    """Copy the migrations, and add one that rebuilds `images` with a CHECK on its sizes."""
    scripts = shutil.copytree(CHECKOUT / "migrations", tmp_path / "scripts")
    text = REBUILD_IMAGES.format(head=HEAD, condition=condition)
    (scripts / "versions" / "0999_rebuild.py").write_text(text)
    return scripts


def test_rebuilding_a_table_keeps_the_rows_that_reference_it(store_path: Path, tmp_path: Path) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b")
        pin(connection, "a", 1)
        cache(connection, "a", 1)
    before = contents(store_path)

    move(command.upgrade, store_path, "head", scripts=scripts_with(tmp_path, "size > 0"))

    assert contents(store_path) == before
    assert {table for table, rows in before.items() if rows} == {
        *("identity", "platforms", "images", "blobs", "documents", "references", "pinned_refs", "ref_cache"),
        "content_look",
    }


def test_a_row_that_the_new_schema_forbids_stops_the_migration_without_changes(
    store_path: Path, tmp_path: Path
) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    before = store_path.read_bytes()

    with pytest.raises(
        SchemaVersionError, match=r"does not fit the new schema \(CHECK .*nothing was changed"
    ):
        move(command.upgrade, store_path, "head", scripts=scripts_with(tmp_path, "size < 0"))
    assert store_path.read_bytes() == before


def test_a_stopped_migration_works_once_its_cause_is_gone(store_path: Path, tmp_path: Path) -> None:
    scripts = scripts_with(tmp_path, "size < 0")
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    with pytest.raises(SchemaVersionError):
        move(command.upgrade, store_path, "head", scripts=scripts)

    with opened(store_path) as connection:
        connection.execute("DELETE FROM images")
    move(command.upgrade, store_path, "head", scripts=scripts)

    assert read_revision(store_path) == "0999"
