"""`db check` finds each row about the content of targets that does not follow from the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.database.content_problems import find_content_problems
from tests.database.rows import opened
from tests.oci.blobs import layer
from tests.trees import TreeSource

if TYPE_CHECKING:
    from pathlib import Path

DIFF_IDS = [f"sha256:{number:064x}" for number in range(7, 9)]
OTHER = f"sha256:{99:064x}"


@pytest.fixture
def filled(store_path: Path) -> Path:
    """A store with an index of two manifests that share a layer, an attestation, and an absent manifest."""
    source = TreeSource()
    images = [
        source.add_manifest(
            *map(layer, layers),
            config={"architecture": name, "os": "linux", "rootfs": {"type": "layers", "diff_ids": DIFF_IDS}},
            platform={"os": "linux", "architecture": name},
        )
        for name, layers in (("amd64", (1, 2)), ("arm64", (1, 3)), ("s390x", (4, 5)))
    ]
    unknown = {"os": "unknown", "architecture": "unknown"}
    attestation = source.add_manifest(layer(6), config={}, platform=unknown)
    source.targets = {"registry.test/app:v1": source.add_index(*images, attestation)}
    source.hidden = {images[-1]["digest"]}
    with Store.open(store_path, source=source, platforms=["linux/amd64", "linux/arm64"]) as store:
        store.sync()
    return store_path


def problems(path: Path, *statements: str) -> list[tuple[str, str]]:
    """Run statements with every constraint and trigger off; return the table and message of each problem."""
    with opened(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        return [(problem.table, problem.message) for problem in find_content_problems(connection)]


def test_a_sound_store_has_no_problem(filled: Path) -> None:
    assert problems(filled) == []


FOLLOWS = "its rows do not follow from the documents"
COUNTED = "its layer_uses are not those of manifest_layers"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE target_manifests SET platform = 'linux/386' WHERE position = 0",
            ("target_manifests", FOLLOWS),
        ),
        ("UPDATE target_manifests SET is_attestation = 1 WHERE position = 1", ("target_manifests", FOLLOWS)),
        ("UPDATE target_manifests SET is_attestation = 0 WHERE position = 3", ("target_manifests", FOLLOWS)),
        ("DELETE FROM target_manifests WHERE position = 2", ("target_manifests", FOLLOWS)),
        ("UPDATE manifests SET compressed_size = compressed_size + 1", ("manifests", FOLLOWS)),
        ("UPDATE manifests SET config_key = (SELECT max(config_key) FROM manifests)", ("manifests", FOLLOWS)),
        ("DELETE FROM manifest_layers WHERE position = 1", ("manifests", FOLLOWS)),
        ("UPDATE manifest_layers SET layer_key = layer_key + 1 WHERE position = 1", ("manifests", FOLLOWS)),
        ("UPDATE manifest_layers SET chain_key = 1 WHERE position = 1", ("manifests", FOLLOWS)),
        (f"UPDATE chains SET chain_id = '{OTHER}' WHERE chain_key = 2", ("manifests", FOLLOWS)),
        (f"UPDATE chains SET diff_id = '{OTHER}' WHERE chain_key = 2", ("manifests", FOLLOWS)),
        (
            "UPDATE documents SET document = CAST(document || x'20' AS BLOB)",
            ("documents", "it has another digest"),
        ),
        ("DELETE FROM documents", ("manifests", "its document is missing")),
        ("UPDATE blobs SET layer_uses = 7 WHERE layer_uses = 1", ("blobs", COUNTED)),
        ("UPDATE chains SET layer_uses = layer_uses - 1", ("chains", COUNTED)),
        ("UPDATE manifest_layers SET layer_key = 5555", ("manifest_layers", "its layer has no row in blobs")),
        (f"INSERT INTO blobs (digest) VALUES ('{OTHER}')", ("blobs", "nothing needs it")),
        (f"INSERT INTO chains (chain_id, diff_id) VALUES ('{OTHER}', '{OTHER}')", ("chains", COUNTED)),
        ("DELETE FROM target_manifests", ("manifests", "no target has this manifest")),
        ("DELETE FROM ref_cache", ("target_manifests", "no reference has this target")),
    ],
)
def test_a_wrong_row_is_found(filled: Path, statement: str, expected: tuple[str, str]) -> None:
    assert expected in problems(filled, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE target_manifests SET platform = NULL",
        "UPDATE manifest_layers SET chain_key = NULL; DELETE FROM chains",
        "UPDATE blobs SET present = NULL, size = NULL, media_type = NULL",
    ],
)
def test_what_is_not_known_yet_is_not_a_problem(filled: Path, statement: str) -> None:
    assert problems(filled, *statement.split(";")) == []


def test_a_chain_id_that_another_config_states_as_its_diff_id_is_one_row(store_path: Path) -> None:
    source = TreeSource()
    first = source.add_manifest(layer(1), layer(2), config={"rootfs": {"diff_ids": DIFF_IDS}})
    source.targets = {"registry.test/app:v1": first}
    with Store.open(store_path, source=source) as store:
        store.sync()
        chain_id = store.list()[0].chain_id
        source.targets["registry.test/app:v2"] = source.add_manifest(
            layer(3), config={"rootfs": {"diff_ids": [chain_id]}}
        )
        store.sync()
    assert problems(store_path) == []
