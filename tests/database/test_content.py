"""What targets are made of, in the tables: written once, learnt later, and forgotten with the last reference."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import ImageNotFoundError, Store
from imagekeep.database import target_statements
from imagekeep.database.driver import sqlite
from imagekeep.oci.documents import OCI_MANIFEST
from tests.database.rows import opened
from tests.oci.blobs import CONFIG_TYPE, PLATFORM, Entry, layer
from tests.trees import TreeSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, OTHER = "registry.test/app:v1", "registry.test/app:v2"
DIFF_IDS = [f"sha256:{number:064x}" for number in range(7, 10)]


@pytest.fixture
def source() -> TreeSource:
    return TreeSource()


@pytest.fixture
def store(store_path: Path, source: TreeSource) -> Iterator[Store]:
    with Store.open(store_path, source=source, platform="linux/amd64") as opened_store:
        yield opened_store


def config_of(layers: int, **fields: object) -> dict[str, object]:
    return {**PLATFORM, "rootfs": {"type": "layers", "diff_ids": DIFF_IDS[:layers]}, **fields}


def image(source: TreeSource, *layers: Entry, **fields: object) -> Entry:
    source.layers.update(each["digest"] for each in layers)
    return source.add_manifest(*layers, config=config_of(len(layers)), **fields)


def rows(store: Store, statement: str) -> list[tuple[Any, ...]]:
    with opened(store.path) as connection:
        return connection.execute(statement).fetchall()


USES = "SELECT digest, layer_uses FROM blobs WHERE layer_uses > 0 ORDER BY digest"


def test_layers_that_images_share_are_one_row_each(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1), layer(2)), OTHER: image(source, layer(1), layer(3))}
    store.update(NAME)
    store.update(OTHER)
    assert rows(store, USES) == [(layer(1)["digest"], 2), (layer(2)["digest"], 1), (layer(3)["digest"], 1)]
    assert rows(store, "SELECT layer_uses FROM chains ORDER BY chain_key") == [(2,), (2,)]


def test_a_layer_is_deleted_with_the_last_manifest_that_has_it(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1), layer(2)), OTHER: image(source, layer(1), layer(3))}
    store.sync()
    del source.targets[OTHER]
    store.sync()
    assert rows(store, USES) == [(layer(1)["digest"], 1), (layer(2)["digest"], 1)]


def test_a_target_that_moves_leaves_nothing_of_the_old_one(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: source.add_index(image(source, layer(1)), image(source, layer(2)))}
    store.update(NAME)
    source.targets = {NAME: image(source, layer(3))}
    store.update(NAME)
    assert rows(store, USES) == [(layer(3)["digest"], 1)]
    assert rows(store, "SELECT count(*) FROM documents") == [(2,)]


def test_one_config_under_other_layers_is_one_image_with_two_manifests(
    store: Store, source: TreeSource
) -> None:
    source.targets = {NAME: image(source, layer(1, 200)), OTHER: image(source, layer(2, 170))}
    store.sync()
    assert len(store.list()) == 1
    sizes = {name: store.platforms(name)[0].size for name in (NAME, OTHER)}
    assert sizes[NAME] == (sizes[OTHER] or 0) + 30
    assert rows(store, "SELECT layer_uses FROM chains") == [(2,)]


def test_a_config_that_arrives_later_makes_the_chain_ids_known(store: Store, source: TreeSource) -> None:
    amd64 = image(source, layer(1))
    arm64 = source.add_manifest(layer(2), config=config_of(1, architecture="arm64"))
    config = json.loads(source.blobs[arm64["digest"]])["config"]["digest"]
    source.targets = {NAME: source.add_index(amd64, arm64)}
    source.hidden = {config}
    store.update(NAME)
    assert [(row.platform, row.state) for row in store.platforms(NAME)] == [
        ("linux/amd64", "complete"),
        (None, "partial"),
    ]
    source.hidden = set()
    store.update(NAME)
    assert [(row.platform, row.state) for row in store.platforms(NAME)] == [
        ("linux/amd64", "complete"),
        ("linux/arm64", "partial"),
    ]
    source.layers.add(layer(2)["digest"])
    store.update(NAME)
    assert [row.state for row in store.platforms(NAME)] == ["complete", "complete"]
    assert rows(store, "SELECT count(*) FROM manifest_layers WHERE chain_key IS NULL") == [(0,)]


def test_a_nested_index_that_arrives_later_adds_its_entries_in_their_place(
    store: Store, source: TreeSource
) -> None:
    first, inner, last = image(source, layer(1)), image(source, layer(2)), image(source, layer(3))
    nested = source.add_index(inner)
    source.targets = {NAME: source.add_index(first, nested, last)}
    source.hidden = {nested["digest"]}
    store.update(NAME)
    assert [row.manifest_digest for row in store.platforms(NAME)] == [first["digest"], last["digest"]]
    source.hidden = set()
    store.update(NAME)
    expected = [first["digest"], inner["digest"], last["digest"]]
    assert [row.manifest_digest for row in store.platforms(NAME)] == expected
    source.hidden = {nested["digest"]}
    store.update(NAME)
    assert [row.manifest_digest for row in store.platforms(NAME)] == expected


def test_what_the_source_loses_is_absent_at_the_next_update(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1, 10), layer(2, 20))}
    store.update(NAME)
    source.hidden = {layer(2)["digest"]}
    store.update(NAME)
    (row,) = store.platforms(NAME)
    assert (row.state, row.absent, row.absent_bytes) == ("partial", 1, 20)


def test_an_absent_manifest_is_absent_and_its_image_unknown(store: Store, source: TreeSource) -> None:
    arm64 = image(source, layer(1), platform={"os": "linux", "architecture": "arm64"})
    source.targets = {NAME: source.add_index(arm64, image(source, layer(2), platform=PLATFORM))}
    source.hidden = {arm64["digest"]}
    store.update(NAME)
    absent, _ = store.platforms(NAME)
    assert (absent.platform, absent.state, absent.image_id, absent.size) == (
        "linux/arm64",
        "absent",
        None,
        None,
    )


def test_a_repeated_layer_is_a_row_each_time(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1), layer(1), layer(1))}
    store.update(NAME)
    assert rows(store, USES) == [(layer(1)["digest"], 3)]
    source.targets = {}
    store.update(NAME)
    assert rows(store, "SELECT count(*) FROM blobs") == [(0,)]


def test_an_unknown_reference_has_no_platforms(store: Store) -> None:
    with pytest.raises(ImageNotFoundError, match="no such image"):
        store.platforms(NAME)


def test_a_reference_that_no_source_reported_has_an_empty_list(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1))}
    store.update(NAME)
    store.add(replace(store.find(NAME), references=(OTHER,)))
    assert store.platforms(OTHER) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM blobs WHERE layer_uses > 0",
        "DELETE FROM chains",
        "UPDATE manifest_layers SET layer_key = 1",
        "UPDATE manifest_layers SET chain_key = NULL",
        "INSERT INTO manifest_layers SELECT manifest_key, 9, 999, NULL FROM manifests",
    ],
)
def test_the_tables_refuse_what_would_break_the_layers(
    store: Store, source: TreeSource, statement: str
) -> None:
    source.targets = {NAME: image(source, layer(1))}
    store.update(NAME)
    with opened(store.path) as connection, pytest.raises(sqlite.IntegrityError):
        connection.execute(statement)


def test_documents_of_manifests_lie_apart_from_configs(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: image(source, layer(1)), OTHER: image(source, layer(2), layer(3))}
    store.update(NAME)
    store.update(OTHER)
    kinds = rows(store, "SELECT media_type FROM documents JOIN blobs USING (blob_key) ORDER BY blob_key")
    assert kinds == [(OCI_MANIFEST,), (OCI_MANIFEST,), (CONFIG_TYPE,), (CONFIG_TYPE,)]


def test_the_view_gives_the_states_that_a_reader_does(store: Store, source: TreeSource) -> None:
    own = [{"os": "linux", "architecture": f"a{number}"} for number in range(5)]
    broken = source.add(OCI_MANIFEST, b"{", platform=own[0])
    invalid = source.add_manifest(layer(1) | {"digest": "sha256:1"}, platform=own[1])
    absent = source.add_manifest(layer(2), platform=own[2])
    partial = source.add_manifest(layer(3), platform=own[3])
    complete = image(source, layer(4), platform=PLATFORM)
    source.targets = {NAME: source.add_index(complete, broken, invalid, absent, partial)}
    source.hidden = {absent["digest"]}
    store.update(NAME)
    expected = ["complete", "partial", "partial", "absent", "partial"]
    assert [row.state for row in store.platforms(NAME)] == expected
    assert rows(store, "SELECT state FROM platform_list ORDER BY position") == [(each,) for each in expected]


MANY = 20_000
"""Entries of an index, or layers of a manifest: fewer than a document can hold, and enough to notice a square."""


@pytest.mark.slow
def test_a_manifest_of_many_layers_is_written_and_deleted(store: Store, source: TreeSource) -> None:
    source.targets = {NAME: source.add_manifest(*map(layer, range(MANY)))}
    store.update(NAME)
    (row,) = store.platforms(NAME)
    assert (row.state, row.absent, row.absent_bytes) == ("partial", MANY, MANY * 1_000)
    source.targets = {}
    store.update(NAME)
    assert rows(store, "SELECT count(*) FROM blobs") == [(0,)]


@pytest.mark.slow
def test_an_index_that_names_a_large_manifest_many_times_counts_it_once(
    store: Store, source: TreeSource
) -> None:
    large = source.add_manifest(*[layer(1)] * MANY)
    entries = [
        {"mediaType": large["mediaType"], "digest": large["digest"], "platform": {"os": f"s{number}"}}
        for number in range(MANY)
    ]
    source.targets = {NAME: source.add_index(large | {"platform": PLATFORM}, *entries)}
    store.update(NAME)
    assert len(store.platforms(NAME)) == MANY + 1
    assert rows(store, USES) == [(layer(1)["digest"], MANY)]


def test_the_platforms_of_a_reference_are_found_by_indexes(store_path: Path) -> None:
    with opened(store_path) as connection:
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {target_statements.PLATFORMS_OF_REFERENCE}", ("x",)
        ).fetchall()
    scanned = {line.split()[1] for *_, line in plan if line.startswith("SCAN")}
    assert scanned <= {"target", "entries", "parts", "content", "(subquery-5)"}
