"""read_target agrees with a naive reading of random trees, whatever part of them is absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given

from imagekeep.oci.image_reader import ImageReader
from imagekeep.oci.target import read_target
from tests.oci.blobs import descriptor
from tests.properties.strategies import randoms
from tests.trees import Forest, entries_of, stated

if TYPE_CHECKING:
    import random


@given(randoms)
def test_a_tree_is_read_as_a_naive_reader_does(seed: random.Random) -> None:
    forest = Forest(seed)
    target, source = forest.target(), forest.source
    forest.hide()
    facts = read_target(descriptor(target), ImageReader(source))
    assert [(entry.media_type, entry.digest) for entry in facts.entries] == list(entries_of(source, target))
    assert [entry.position for entry in facts.entries] == list(range(len(facts.entries)))
    assert all(
        source.has(digest) and source.blobs[digest] == text for digest, text in facts.documents.items()
    )
    for digest, manifest in facts.manifests.items():
        config, *layers = [entry["digest"] for entry in stated(source, digest)]
        assert (manifest.config, list(manifest.layers)) == (config, layers)


@given(randoms)
def test_what_is_known_beforehand_to_be_absent_changes_nothing(seed: random.Random) -> None:
    forest = Forest(seed)
    target, source = descriptor(forest.target()), forest.source
    forest.hide()
    present = source.contents()
    informed = read_target(target, ImageReader(source), present)
    assert informed == read_target(target, ImageReader(source)).with_present(present)
