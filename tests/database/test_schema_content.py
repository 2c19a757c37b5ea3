"""What SQLite itself refuses and deletes in the tables of content and use."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from tests.database.rows import TARGET, add_blob, add_image, cache, digest_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST, LAYER = digest_of(b"manifest"), digest_of(b"layer")
LARGEST = 2**40


@pytest.fixture
def store(store_path: Path) -> Iterator[sqlite.Connection]:
    """A store of one image, a, whose target holds one manifest with one layer."""
    with contextlib.closing(connect(store_path)) as connection:
        add_image(connection, 1, "a", document=b"1")
        for digest in (TARGET, MANIFEST, LAYER):
            add_blob(connection, digest)
        keys = dict(connection.execute("SELECT digest, blob_key FROM blobs").fetchall())
        manifest = keys[MANIFEST]
        connection.execute("INSERT INTO manifests VALUES (?, ?, 5)", (manifest, keys[digest_of(b"1")]))
        connection.execute(
            "INSERT INTO chains (chain_key, chain_id, diff_id) VALUES (1, ?, ?)", (LAYER, LAYER)
        )
        connection.execute("INSERT INTO manifest_layers VALUES (?, 0, ?, 1)", (manifest, keys[LAYER]))
        connection.execute("INSERT INTO target_manifests VALUES (?, 0, ?, NULL, 0)", (keys[TARGET], manifest))
        connection.execute("INSERT INTO image_usage VALUES (?, 0, NULL, 0)", (digest_of(b"1"),))
        cache(connection, "a", 1)
        yield connection


FORBIDDEN = {
    "blobs_have_a_digest": "UPDATE blobs SET digest = 'sha256:1'",
    "blobs_have_a_possible_size": f"UPDATE blobs SET size = {LARGEST + 1}",
    "blobs_present_is_a_truth": "UPDATE blobs SET present = 2",
    "blobs_layer_uses_are_counted": "UPDATE blobs SET layer_uses = -1",
    "chains_unpacked_is_a_truth": "UPDATE chains SET unpacked = 2",
    "chains_have_a_possible_size": "UPDATE chains SET unpacked_bytes = -1",
    "chains_layer_uses_are_counted": "UPDATE chains SET layer_uses = -1",
    "target_manifests_is_attestation_is_a_truth": "UPDATE target_manifests SET is_attestation = 2",
    "containers_running_is_a_truth": "INSERT INTO containers VALUES ('x', 'a', NULL, NULL, 2)",
    "image_usage_uses_are_counted": "UPDATE image_usage SET uses = -1",
    "content_look_is_one_row": "INSERT INTO content_look (look_key) VALUES (2)",
    "blobs.digest": f"INSERT INTO blobs (digest) VALUES ('{LAYER}')",
    "chains.chain_id": f"INSERT INTO chains (chain_id, diff_id) VALUES ('{LAYER}', 'x')",
}


@pytest.mark.parametrize("constraint", FORBIDDEN)
def test_a_value_that_a_constraint_forbids_is_refused(store: sqlite.Connection, constraint: str) -> None:
    with pytest.raises(sqlite.IntegrityError, match=constraint):
        store.execute(FORBIDDEN[constraint])


@pytest.mark.parametrize("size", [None, 0, LARGEST])
def test_a_size_is_unknown_or_possible(store: sqlite.Connection, size: int | None) -> None:
    store.execute("UPDATE blobs SET size = ?", (size,))


ORPHANS = [
    "INSERT INTO documents VALUES (99, x'7b7d')",
    "INSERT INTO manifests SELECT 99, config_key, NULL FROM manifests",
    "UPDATE manifests SET config_key = 99",
    "INSERT INTO manifest_layers SELECT 99, 0, layer_key, NULL FROM manifest_layers",
    "INSERT INTO target_manifests SELECT 99, 0, manifest_key, NULL, 0 FROM target_manifests",
    "UPDATE target_manifests SET manifest_key = 99",
    "UPDATE images SET config_key = 99",
    "UPDATE ref_cache SET manifest_key = (SELECT blob_key FROM blobs JOIN images ON id = digest)",
    f"UPDATE ref_cache SET target_digest = '{digest_of(b'another')}'",
    f"DELETE FROM blobs WHERE digest = '{TARGET}'",
    f"DELETE FROM blobs WHERE digest = '{MANIFEST}'",
]


@pytest.mark.parametrize("statement", ORPHANS)
def test_a_row_without_the_row_that_it_needs_is_refused(store: sqlite.Connection, statement: str) -> None:
    with pytest.raises(sqlite.IntegrityError, match="FOREIGN KEY"):
        store.execute(statement)


CONTENT = ("blobs", "documents", "chains", "manifests", "manifest_layers", "target_manifests", "image_usage")


def test_all_that_an_image_needs_is_deleted_with_its_last_reference(store: sqlite.Connection) -> None:
    store.execute('DELETE FROM "references"')

    assert {table: rows_of(store, table) for table in CONTENT} == {table: [] for table in CONTENT}


def test_a_target_that_another_reference_has_stays(store: sqlite.Connection) -> None:
    store.execute("INSERT INTO \"references\" (name, image_key, sort_rank) VALUES ('b', 1, 1)")
    cache(store, "b", 1)
    before = {table: rows_of(store, table) for table in CONTENT}

    store.execute("DELETE FROM \"references\" WHERE name = 'a'")

    assert {table: rows_of(store, table) for table in CONTENT} == before


def test_a_forgotten_target_leaves_the_image_with_its_config(store: sqlite.Connection) -> None:
    store.execute("DELETE FROM ref_cache")

    assert [digest for _, digest, *_ in rows_of(store, "blobs")] == [digest_of(b"1")]
    assert [document for _, document in rows_of(store, "documents")] == [b"1"]


def test_the_use_of_an_image_stays_while_another_platform_has_it(store: sqlite.Connection) -> None:
    store.execute("INSERT INTO platforms VALUES (1, 'linux/arm64')")
    store.execute("INSERT INTO images SELECT 2, id, chain_id, size, 1, config_key FROM images")

    store.execute("DELETE FROM images WHERE image_key = 1")
    assert len(rows_of(store, "image_usage")) == 1

    store.execute("DELETE FROM images")
    assert rows_of(store, "image_usage") == []
