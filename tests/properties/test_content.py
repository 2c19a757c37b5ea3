"""A store knows of random trees what a naive reader finds, and forgets it with the last reference."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import given, settings

from imagekeep import ImagekeepError, Store
from imagekeep.oci.documents import OCI_MANIFEST
from tests.database.rows import opened
from tests.properties.strategies import randoms
from tests.trees import NAMES, Forest, entries_of, state_of
from tests.volatile import volatile_directory

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.trees import TreeSource

CONTENT = ("blobs", "documents", "manifests", "manifest_layers", "chains", "target_manifests", "ref_cache")


@given(randoms)
@settings(max_examples=40)
def test_a_store_knows_what_is_there_of_each_manifest(store_template: Path, seed: random.Random) -> None:
    forest = Forest(seed)
    source = forest.source
    with volatile_directory() as directory:
        path = directory / "images.db"
        shutil.copy(store_template, path)
        with Store.open(path, source=source, platforms="*") as store:
            for _ in range(6):
                name = seed.choice(NAMES)
                source.targets[name] = forest.target()
                forest.hide()
                if stored(store, name):
                    assert_states(store, source, name)
            source.hidden = set()
            for name in list(source.targets):
                if stored(store, name):
                    assert_states(store, source, name)
                    assert_every_manifest(store, source, name)
            source.targets.clear()
            for name in NAMES:
                store.update(name)
        with opened(path) as connection:
            counts = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in CONTENT
            }
        assert counts == dict.fromkeys(CONTENT, 0)


def stored(store: Store, name: str) -> bool:
    """Update a reference; return whether its image could be read for a platform."""
    with suppress(ImagekeepError):
        store.update(name)
        return True
    return False


def assert_states(store: Store, source: TreeSource, name: str) -> None:
    """Assert the state of each manifest whose entry can be read now."""
    reachable = {digest for _, digest in entries_of(source, source.targets[name])}
    for row in store.platforms(name):
        if row.manifest_digest in reachable:
            state, absent, absent_bytes = state_of(source, row.manifest_digest)
            assert row.state == state
            if state != "absent":
                assert (row.absent, row.absent_bytes) == (absent, absent_bytes)


def assert_every_manifest(store: Store, source: TreeSource, name: str) -> None:
    """Assert that each manifest beneath the target is there, when all of it can be read."""
    manifests = {digest for kind, digest in entries_of(source, source.targets[name]) if kind == OCI_MANIFEST}
    rest = iter([digest for _, digest in entries_of(source, source.targets[name])])
    known = [row.manifest_digest for row in store.platforms(name)]
    assert set(known) <= manifests
    assert all(digest in rest for digest in known)  # in the same order
