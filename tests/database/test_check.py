"""`find_problems` names each invariant broken by hand, and its row."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import CheckConstraint

from imagekeep import ObservedImage, Store
from imagekeep.database.check import CHECKS, Problem, find_others, find_problems
from imagekeep.database.connection import connect
from imagekeep.internals import apply_all
from imagekeep.oci.image import chain_id
from imagekeep.schema import metadata
from tests.database.rows import digest_of, opened
from tests.model import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite

NAME, OTHER = "docker.io/library/busybox:1", "busybox:2"
ONE, TWO = IMAGES[1:3]
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def unguarded(store_path: Path) -> Iterator[sqlite.Connection]:
    """A connection without constraints, to a store of two images, one pinned by both its names."""
    with Store.open(store_path) as store:
        apply_all(store, {NAME: ONE, OTHER: ONE, ONE.id: ONE, "app:1": TWO})
        store.pin(ONE.id, NAME)
        store.pin(ONE.id, OTHER)
    with opened(store_path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA recursive_triggers = OFF")
        yield connection


def broken(connection: sqlite.Connection, *statements: str) -> list[tuple[str, str]]:
    """Run statements, and return the table and row of each problem."""
    for statement in statements:
        assert connection.execute(statement).rowcount != 0
    return [(problem.table, problem.row) for problem in find_problems(connection)]


def test_a_sound_store_has_no_problems(unguarded: sqlite.Connection) -> None:
    assert list(find_problems(unguarded)) == []


def test_an_empty_store_has_no_problems(store_path: Path) -> None:
    with opened(store_path) as connection:
        assert list(find_problems(connection)) == []


CHANGED = {
    "table images": "ALTER TABLE images ADD COLUMN note TEXT",
    "table watcher": "ALTER TABLE watcher RENAME COLUMN changes TO amount",
    "table pinned_refs": "DROP TABLE pinned_refs",
    "index reference_history_by_reference": "DROP INDEX reference_history_by_reference",
    "trigger an_image_goes_with_its_last_reference": "DROP TRIGGER an_image_goes_with_its_last_reference",
    "trigger mine": "CREATE TRIGGER mine AFTER DELETE ON images BEGIN DELETE FROM watcher; END",
    "view config_list": "DROP VIEW config_list",
}


@pytest.mark.parametrize("changed", CHANGED)
def test_a_changed_object_of_the_schema_is_named(unguarded: sqlite.Connection, changed: str) -> None:
    unguarded.execute(CHANGED[changed])
    assert [p.row for p in find_problems(unguarded) if p.table == "sqlite_schema"] == [changed]


def test_rows_are_checked_even_if_a_trigger_is_missing(unguarded: sqlite.Connection) -> None:
    unguarded.execute("DROP TRIGGER an_image_goes_with_its_last_reference")
    assert ("pinned_refs", "foreign") in broken(
        unguarded, "INSERT INTO pinned_refs (reference, image_key) VALUES ('foreign', 1)"
    )


def test_a_view_in_place_of_a_table_is_named_and_not_read(unguarded: sqlite.Connection) -> None:
    unguarded.execute("DROP TABLE images")
    unguarded.execute(
        "CREATE VIEW images AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n)"
        " SELECT n AS image_key, 'x' AS id, '' AS chain_id, 0 AS size FROM n"
    )
    assert [str(problem) for problem in find_problems(unguarded)] == [
        "table images: is missing",
        "index images_by_config: is missing",
        "trigger a_config_goes_with_its_last_image: is missing",
        "view images: is not imagekeep's",
    ]


OTHERS = {
    "table sqlite_stat1": "ANALYZE",
    "table _litestream_seq": "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    "index by_size": "CREATE INDEX by_size ON images (size)",
    "view mine": "CREATE VIEW mine AS SELECT id FROM images",
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_object_of_another_program_is_named_and_not_a_problem(
    unguarded: sqlite.Connection, other: str
) -> None:
    unguarded.execute(OTHERS[other])
    assert list(find_problems(unguarded)) == []
    assert other in find_others(unguarded)


@pytest.mark.parametrize("change", ["DELETE FROM identity", "UPDATE identity SET store_id = 'x'"])
def test_a_store_without_an_id_is_named(unguarded: sqlite.Connection, change: str) -> None:
    assert broken(unguarded, change) == [("identity", "")]


def test_an_image_without_a_reference_is_named(unguarded: sqlite.Connection) -> None:
    insert = f"INSERT INTO images VALUES (9, '{IMAGES[5].id}', '', 1, 0, 99)"
    assert ("images", IMAGES[5].id) in broken(unguarded, insert)
    assert [str(problem) for problem in find_problems(unguarded)] == [
        f"images {IMAGES[5].id}: it has no reference",
        f"images {IMAGES[5].id}: its config is missing",
    ]


def config_of(image: ObservedImage) -> str:
    """Return the SQL for the key of an image's config."""
    return f"(SELECT config_key FROM images WHERE id = '{image.id}')"


def test_a_missing_config_is_named(unguarded: sqlite.Connection) -> None:
    delete = f"DELETE FROM documents WHERE blob_key = {config_of(TWO)}"
    assert broken(unguarded, delete) == [("images", TWO.id)]


def test_a_document_without_a_blob_is_named(unguarded: sqlite.Connection) -> None:
    insert = "INSERT INTO documents VALUES (99, x'7b7d')"
    assert broken(unguarded, insert) == [("documents", "blob_key 99")]


def test_an_id_that_is_not_the_digest_of_its_config_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE documents SET document = x'7b7d' WHERE blob_key = {config_of(TWO)}"
    assert broken(unguarded, update) == [("images", TWO.id)]


def test_an_id_that_is_not_a_digest_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE images SET id = 'short' WHERE id = '{TWO.id}'"
    assert ("images", "short") in broken(unguarded, update)


def test_a_chain_id_that_does_not_follow_from_the_layers_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE images SET chain_id = '{DIGEST}' WHERE id = '{TWO.id}'"
    assert broken(unguarded, update) == [("images", TWO.id)]


LAYERS = [DIGEST, f"sha256:{'1' * 64}"]


@pytest.mark.parametrize(
    "config",
    [
        {"rootfs": {"diff_ids": LAYERS}},
        {"rootfs": {"DIFF_IDS": LAYERS}},  # as Go decodes it
        {"author": {"diff_ids": [DIGEST]}, "rootfs": {"diff_ids": LAYERS}},  # not an author to Go
        {"other": {"diff_ids": [DIGEST]}, "rootfs": {"diff_ids": LAYERS}},
        {"rootfs": {"diff_ids": ["no digest", "nor this"]}},
    ],
    ids=["plain", "case", "no config", "elsewhere", "no digests"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_chain_id_follows_from_the_layers_in_any_spelling(
    store_path: Path, config: dict[str, Any], indent: int | None
) -> None:
    document = json.dumps(config, indent=indent).encode()
    is_config = "author" not in config
    layers = next(iter(config["rootfs"].values()))
    right, wrong = chain_id(layers), chain_id([*layers, DIGEST])
    with Store.open(store_path) as store:
        for chain, expected in ((right, [] if is_config else ["images"]), (wrong, ["images"])):
            store.apply(NAME, None)
            store.apply(NAME, ObservedImage(digest_of(document), chain, 1, document, None))
            with opened(store_path) as connection:
                assert [problem.table for problem in find_problems(connection)] == expected


def test_a_reference_without_an_image_is_named(unguarded: sqlite.Connection) -> None:
    update = "UPDATE \"references\" SET image_key = 9 WHERE name = 'busybox:2'"
    assert ("references", OTHER) in broken(unguarded, update)


def test_a_pin_of_another_image_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE pinned_refs SET image_key = image_key + 1 WHERE reference = '{OTHER}'"
    assert ("pinned_refs", OTHER) in broken(unguarded, update)


def test_a_pin_without_a_reference_is_named(unguarded: sqlite.Connection) -> None:
    insert = "INSERT INTO pinned_refs (reference, image_key) VALUES ('foreign', 1)"
    assert broken(unguarded, insert) == [("pinned_refs", "foreign")]


def test_a_cache_row_that_disagrees_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE ref_cache SET image_key = image_key + 1 WHERE reference = '{OTHER}'"
    assert broken(unguarded, update) == [("ref_cache", OTHER)]


def test_a_cache_row_without_a_reference_is_named(unguarded: sqlite.Connection) -> None:
    update = f"UPDATE ref_cache SET reference = 'foreign' WHERE reference = '{OTHER}'"
    assert broken(unguarded, update) == [("ref_cache", "foreign")]


@pytest.mark.parametrize("change", ["sort_rank = 3", "sort_name = 'zzz'", "sort_name = NULL"])
def test_wrong_sort_columns_are_named(unguarded: sqlite.Connection, change: str) -> None:
    update = f"UPDATE \"references\" SET {change} WHERE name = '{OTHER}'"
    assert broken(unguarded, update) == [("references", OTHER)]


def test_a_change_missing_from_the_history_is_named(unguarded: sqlite.Connection) -> None:
    delete = f"DELETE FROM pinned_refs WHERE reference = '{OTHER}'"
    assert broken(unguarded, delete) == [("reference_history", OTHER)]


@pytest.mark.parametrize(
    "update",
    [
        f"UPDATE blobs SET size = -1 WHERE digest = '{TWO.id}'",
        "UPDATE \"references\" SET sort_rank = 7 WHERE name = 'app:1'",
    ],
)
def test_a_value_that_violates_a_check_is_named_by_sqlite(unguarded: sqlite.Connection, update: str) -> None:
    unguarded.execute(update)
    unguarded.execute("PRAGMA ignore_check_constraints = OFF")
    messages = [problem.message for problem in find_problems(unguarded) if problem.table == "file"]
    assert len(messages) == 1
    assert "CHECK constraint failed" in messages[0]


INSERT_CHANGE = "INSERT INTO reference_history (sequence, reference, image_id, pinned, event, at)"
WITH_PLATFORM = INSERT_CHANGE.replace("at)", "at, platform)")

FORBIDDEN = {
    "images_id_is_a_digest": f"UPDATE images SET id = 'sha256:1' WHERE id = '{TWO.id}'",
    "references_have_a_name": "UPDATE \"references\" SET name = '' WHERE name = 'app:1'",
    "references_have_a_sort_rank": "UPDATE \"references\" SET sort_rank = 6 WHERE name = 'app:1'",
    "blobs_have_a_digest": f"UPDATE blobs SET digest = 'none' WHERE digest = '{TWO.id}'",
    "blobs_have_a_possible_size": f"UPDATE blobs SET size = -1 WHERE digest = '{TWO.id}'",
    "blobs_present_is_a_truth": f"UPDATE blobs SET present = 2 WHERE digest = '{TWO.id}'",
    "blobs_layer_uses_are_counted": f"UPDATE blobs SET layer_uses = -1 WHERE digest = '{TWO.id}'",
    "chains_unpacked_is_a_truth": "INSERT INTO chains VALUES (1, 'x', 'y', 2, NULL, 0)",
    "chains_have_a_possible_size": "INSERT INTO chains VALUES (1, 'x', 'y', 1, -1, 0)",
    "chains_layer_uses_are_counted": "INSERT INTO chains VALUES (1, 'x', 'y', 1, 1, -1)",
    "target_manifests_is_attestation_is_a_truth": "INSERT INTO target_manifests VALUES (1, 0, 1, NULL, 2)",
    "containers_running_is_a_truth": "INSERT INTO containers VALUES ('x', 'y', NULL, NULL, 2)",
    "image_usage_uses_are_counted": f"UPDATE image_usage SET uses = -1 WHERE image_id = '{TWO.id}'",
    "content_look_is_one_row": "INSERT INTO content_look (look_key) VALUES (2)",
    "reference_history_events": f"{INSERT_CHANGE} VALUES (99, 'x', 'y', 0, 'lost', 0)",
    "reference_history_pinned_is_a_truth": f"{INSERT_CHANGE} VALUES (99, 'x', 'y', 2, 'new', 0)",
    "identity_is_one_row": "INSERT INTO identity VALUES (2, 'x', NULL, NULL)",
    "image_filesystem_is_one_row": "INSERT INTO image_filesystem VALUES (2, '/', NULL, NULL, 0)",
    "watcher_is_one_row": "INSERT INTO watcher VALUES (2, 1, 'x', 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL)",
}


@pytest.mark.parametrize("constraint", CHECKS)
def test_a_value_that_violates_a_check_is_named_in_a_read_only_directory(
    unguarded: sqlite.Connection, store_path: Path, constraint: str
) -> None:
    unguarded.execute(FORBIDDEN[constraint])
    with contextlib.closing(connect(store_path, read_only=True)) as connection:
        found = [problem.message for problem in find_problems(connection)]
    assert f"the constraint {constraint} forbids it" in found


def test_every_check_of_the_schema_is_verified() -> None:
    constraints = [each for table in metadata.tables.values() for each in table.constraints]
    assert {each.name for each in constraints if isinstance(each, CheckConstraint)} == {*CHECKS}


def test_every_problem_is_yielded_and_not_only_the_first(unguarded: sqlite.Connection) -> None:
    found = broken(
        unguarded,
        f"UPDATE images SET chain_id = '{DIGEST}'",
        'UPDATE "references" SET sort_rank = 3',
        "DELETE FROM pinned_refs",
    )
    assert {table for table, _ in found} == {"images", "references", "reference_history"}
    assert len(found) == 2 + 4 + 2


def test_a_problem_is_printed_with_terminal_sequences_escaped() -> None:
    assert "\x1b" not in str(Problem("references", "\x1b[2J", "no image"))


NO_UTF8 = "CAST(x'61c561' AS TEXT)"


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("images", f"UPDATE images SET chain_id = {NO_UTF8} WHERE id = '{ONE.id}'"),
        ("references", f'INSERT INTO "references" VALUES (0, {NO_UTF8}, 1, 1, NULL)'),
        ("ref_cache", f"UPDATE ref_cache SET target_digest = {NO_UTF8}"),
        ("platforms", f"UPDATE platforms SET platform = {NO_UTF8}"),
        ("blobs", f"UPDATE blobs SET media_type = {NO_UTF8}"),
        ("chains", f"INSERT INTO chains VALUES (1, 'x', {NO_UTF8}, NULL, NULL, 0)"),
        ("target_manifests", f"INSERT INTO target_manifests VALUES (1, 0, 1, {NO_UTF8}, 0)"),
        ("containers", f"INSERT INTO containers VALUES ('x', {NO_UTF8}, NULL, NULL, 0)"),
        ("image_usage", f"INSERT INTO image_usage VALUES ({NO_UTF8}, 0, NULL, 0)"),
        ("content_look", f"UPDATE content_look SET snapshotter = {NO_UTF8}"),
        ("reference_history", f"{INSERT_CHANGE} VALUES (99, {NO_UTF8}, '{ONE.id}', 0, 'new', 0)"),
        ("reference_history", f"{WITH_PLATFORM} VALUES (99, 'x', 'y', 0, 'new', 0, {NO_UTF8})"),
        ("incomplete_refs", f"INSERT INTO incomplete_refs VALUES ('a', {NO_UTF8}, 0, 0, 1)"),
        ("identity", f"UPDATE identity SET source = {NO_UTF8}"),
        ("image_filesystem", f"INSERT INTO image_filesystem VALUES (1, {NO_UTF8}, NULL, NULL, 0)"),
    ],
)
def test_text_that_is_not_utf8_is_found(unguarded: sqlite.Connection, table: str, statement: str) -> None:
    assert table in [found for found, _ in broken(unguarded, statement)]


def test_a_schema_that_is_not_utf8_is_found(unguarded: sqlite.Connection) -> None:
    unguarded.execute("PRAGMA writable_schema = ON")
    undecodable = "CAST(CAST(sql AS BLOB) || x'2d2dc5' AS TEXT)"
    statement = f"UPDATE sqlite_schema SET sql = {undecodable} WHERE name = 'image_list'"

    assert broken(unguarded, statement) == [("sqlite_schema", "view image_list")]


def test_a_schema_that_is_not_text_is_found(unguarded: sqlite.Connection) -> None:
    unguarded.execute("PRAGMA writable_schema = ON")
    statement = "UPDATE sqlite_schema SET sql = CAST(sql AS BLOB) WHERE name = 'image_list'"

    assert broken(unguarded, statement) == [("sqlite_schema", "view image_list")]
