"""A schema is compared with its revision object by object, before anything hostile is read."""

from __future__ import annotations

import contextlib
import sqlite3  # pysqlite3 lacks iterdump
from typing import TYPE_CHECKING

import pytest

from imagekeep import Reader, Store
from imagekeep.database import revision as revision_module
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite, translating
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import (
    APPLICATION_ID,
    HEAD,
    REVISIONS,
    Comparison,
    Difference,
    SchemaObject,
    compare,
    describe,
    digest_of_object,
    expected_objects,
    read_objects,
    read_schema,
)
from imagekeep.errors import CorruptStoreError, NotAStoreError, StoreUnavailableError
from tests.database.rows import add_image, opened
from tests.database.stores import at_revision, backups_of, thawed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def comparison_of(path: Path, revision: str = HEAD) -> Comparison:
    with opened(path) as connection:
        return compare(revision, read_objects(connection.cursor()))


def change(path: Path, *statements: str) -> None:
    """Change a store and its schema table like another program."""
    with contextlib.closing(sqlite.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_objects_of_a_revision_are_those_of_its_migration(revision: str, path: Path) -> None:
    at_revision(revision, path)
    with opened(path) as connection:
        made = {
            str(one): digest_of_object(one)
            for one in read_objects(connection.cursor())
            if one.sql is not None
        }

    assert expected_objects(revision) == made
    assert comparison_of(path, revision) == Comparison((), ())


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_a_frozen_store_has_the_schema_of_its_revision(revision: str, path: Path) -> None:
    assert comparison_of(thawed(revision, path), revision) == Comparison((), ())


def test_an_upgraded_store_has_the_objects_of_a_new_one(old: Path) -> None:
    migrate(old)

    assert comparison_of(old) == Comparison((), ())


def test_a_schema_with_other_white_space_is_the_same(store_path: Path) -> None:
    change(store_path, "UPDATE sqlite_schema SET sql = replace(sql, char(10), '  ' || char(9))")

    assert comparison_of(store_path).differences == ()


CHANGES = {
    "a column more": ("ALTER TABLE watcher ADD COLUMN extra TEXT", "table watcher is changed"),
    "a table gone": ("DROP TABLE incomplete_refs", "table incomplete_refs is missing"),
    "an index gone": (
        "DROP INDEX reference_history_by_reference",
        "index reference_history_by_reference is missing",
    ),
    "a trigger gone": (
        "DROP TRIGGER a_reference_is_not_replaced",
        "trigger a_reference_is_not_replaced is missing",
    ),
    "a check gone": (
        "UPDATE sqlite_schema SET sql = replace(sql, 'BETWEEN 0 AND 5', 'BETWEEN 0 AND 9')"
        " WHERE name = 'references'",
        "table references is changed",
    ),
    "a trigger more": (
        "CREATE TRIGGER mine AFTER INSERT ON images BEGIN DELETE FROM images; END",
        "trigger mine is not imagekeep's",
    ),
    "a trigger on a view": (
        "CREATE TRIGGER mine INSTEAD OF DELETE ON image_list BEGIN SELECT 1; END",
        "trigger mine is not imagekeep's",
    ),
    "a hidden function": (
        "CREATE VIEW json_each AS SELECT 1 AS value",
        "view json_each is not imagekeep's",
    ),
}


@pytest.mark.parametrize(("statement", "words"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("open_it", [Reader.open, Store.open])
def test_a_changed_schema_is_refused_naming_what_differs(
    store_path: Path, statement: str, words: str, open_it: Callable[[Path], Reader]
) -> None:
    change(store_path, statement)

    with pytest.raises(CorruptStoreError, match=f"schema is not that of revision {HEAD}: {words}"):
        open_it(store_path)


OTHERS = {
    "statistics": "ANALYZE",
    "an index": "CREATE INDEX mine ON images (size)",
    "Litestream's table": "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    "a view": "CREATE VIEW mine AS SELECT id FROM images",
    "a table and its trigger": "CREATE TABLE mine (i UNIQUE)",
}


@pytest.mark.parametrize("statement", OTHERS.values(), ids=OTHERS)
def test_objects_of_other_programs_are_allowed(store_path: Path, statement: str) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    change(store_path, statement)

    found = comparison_of(store_path)
    assert found.differences == ()
    assert found.others
    with Reader.open(store_path) as reader:
        assert reader.references() == ["a"]


def test_a_trigger_on_another_programs_table_is_allowed(store_path: Path) -> None:
    change(
        store_path,
        "CREATE TABLE mine (i)",
        "CREATE TRIGGER also_mine AFTER INSERT ON mine BEGIN SELECT 1; END",
    )

    assert [str(one) for one in comparison_of(store_path).others] == ["table mine", "trigger also_mine"]


def endless(path: Path, table: str) -> None:
    """Replace a table with an endless view."""
    change(
        path,
        "PRAGMA foreign_keys = OFF",
        f'DROP TABLE "{table}"',
        f'CREATE VIEW "{table}" AS {ENDLESS} SELECT i AS image_key, i AS id, i AS chain_id, i AS size,'
        " i AS version_num FROM n WHERE i < 0",
    )


@pytest.mark.parametrize("open_it", [Reader.open, Store.open])
@pytest.mark.parametrize("table", ["images", "alembic_version"])
def test_an_endless_view_is_not_read(store_path: Path, table: str, open_it: Callable[[Path], Reader]) -> None:
    endless(store_path, table)

    with pytest.raises(CorruptStoreError, match=table):
        open_it(store_path)


def test_an_old_store_with_an_endless_view_is_not_migrated(old: Path) -> None:
    endless(old, "images")

    with pytest.raises(CorruptStoreError, match="table images is missing"):
        migrate(old)
    assert not backups_of(old)


def test_reads_of_a_foreign_schema_time_out(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless(store_path, "images")
    monkeypatch.setattr(revision_module, "UNKNOWN_WAIT", 0.0)

    with contextlib.closing(connect(store_path, read_only=True)) as connection:
        assert read_schema(connection.cursor(), store_path).comparison.differences
        with pytest.raises(StoreUnavailableError, match="took too long"), translating(store_path):
            connection.execute("SELECT * FROM images")


def test_reads_of_imagekeeps_own_schema_do_not_time_out(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision_module, "UNKNOWN_WAIT", 0.0)

    with contextlib.closing(connect(store_path, read_only=True)) as connection:
        read_schema(connection.cursor(), store_path)
        counted = connection.execute(f"{ENDLESS} SELECT count(*) FROM (SELECT i FROM n LIMIT 200000)")
        assert counted.fetchone() == (200_000,)


def test_a_long_revision_and_long_texts_are_truncated(store_path: Path) -> None:
    change(store_path, "UPDATE alembic_version SET version_num = printf('%.*c', 3000000, 'x')")
    with opened(store_path) as connection:
        assert read_schema(connection.cursor(), store_path).revision == "x" * 64


def test_a_dumped_copy_is_refused_naming_what_it_lacks(store_path: Path, path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(store_path)) as source,
        contextlib.closing(sqlite.connect(path)) as copy,
    ):
        copy.executescript("\n".join(source.iterdump()))

    with pytest.raises(
        NotAStoreError, match=rf"\.dump or \.clone .*PRAGMA application_id = {APPLICATION_ID}"
    ):
        Reader.open(path)
    change(path, f"PRAGMA application_id = {APPLICATION_ID}")
    with Reader.open(path) as reader:
        assert reader.references() == []


def test_a_few_differences_are_named_and_the_rest_counted() -> None:
    differences = [Difference(f"table t{number}", "missing") for number in range(7)]

    assert describe(differences).endswith("table t4 is missing and 2 more")


def test_only_white_space_of_sql_is_folded_in_a_digest() -> None:
    def digest(sql: str) -> str:
        return digest_of_object(SchemaObject("view", "v", "v", sql))

    assert digest("SELECT\n  1") == digest("SELECT 1") != digest("SELECT\N{NO-BREAK SPACE}1")
