"""Reading an image: what is asked of the source, what errors say, and that hostile images stay bounded."""

from __future__ import annotations

import json

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    InvalidDocumentError,
    Stage,
)
from imagekeep.oci.documents import OCI_MANIFEST, Manifest, parse_manifest
from imagekeep.oci.image import ImageFacts, read_image
from imagekeep.oci.image_reader import BYTES_LIMIT, DOCUMENTS_LIMIT, LARGE_BYTES, SharedDocuments
from imagekeep.platform import Platform, only
from tests.oci.blobs import HOST, PLATFORM, Blobs, Entry, descriptor, layer, linux_amd64


def facts_of(content: Blobs, target: Entry) -> ImageFacts:
    return read_image(descriptor(target), content, linux_amd64())


def nested_indexes(content: Blobs, entry: Entry, levels: int) -> Entry:
    for _ in range(levels):
        entry = content.add_index(entry)
    return entry


def test_each_document_is_read_once() -> None:
    content = Blobs()
    target = content.add_index(content.add_manifest(layer(1), layer(2)))
    facts_of(content, target)
    assert content.reads == len(content.blobs) == 3


def test_documents_beside_the_chosen_ones_are_not_read() -> None:
    content = Blobs()
    foreign = {"os": "linux", "architecture": "s390x"}
    target = content.add_index(
        content.add_manifest(config=foreign, platform=foreign), content.add_manifest(platform=PLATFORM)
    )
    facts_of(content, target)
    assert content.reads == 3


def test_the_best_entry_is_chosen_wherever_it_stands() -> None:
    content = Blobs()
    platforms = [{**PLATFORM, "variant": variant} for variant in ("v1", "v3", "v2")]
    entries = [content.add_manifest(config=platform, platform=platform) for platform in platforms]
    matcher = only(Platform("linux", "amd64", "v3"), HOST)
    facts = read_image(descriptor(content.add_index(*entries)), content, matcher)
    assert b"v3" in facts.config_json


def test_a_failure_while_choosing_carries_the_stage_of_the_layers_ids() -> None:
    with pytest.raises(ContentNotFoundError) as caught:
        facts_of(Blobs(), {"mediaType": OCI_MANIFEST, "digest": f"sha256:{1:064}", "size": 1})
    assert caught.value.stage is Stage.DIFF_IDS


def test_a_config_that_cannot_be_decoded_carries_the_stage_of_the_layers_ids() -> None:
    content = Blobs()
    with pytest.raises(InvalidDocumentError) as caught:
        facts_of(content, content.add_manifest(config={**PLATFORM, "rootfs": []}))
    assert caught.value.stage is Stage.DIFF_IDS


def test_a_failure_while_summing_carries_the_stage_of_the_size() -> None:
    content = Blobs()
    missing = {**layer(1), "mediaType": OCI_MANIFEST}
    with pytest.raises(ContentNotFoundError) as caught:
        facts_of(content, content.add_manifest(missing))
    assert caught.value.stage is Stage.SIZE


def test_a_config_that_is_not_its_digest_s_is_never_an_image() -> None:
    content = Blobs()
    target = content.add_manifest()
    digest = next(iter(content.blobs))
    content.blobs[digest] = b"{}"
    with pytest.raises(CorruptContentError):
        facts_of(content, target)


@pytest.mark.parametrize("size", [0, 7, 2**62])
def test_every_occurrence_of_a_layer_counts(size: int) -> None:
    content = Blobs()
    without = facts_of(content, content.add_manifest()).size
    three = content.add_manifest(*[layer(1, size)] * 3)
    expected = without + 3 * size + three["size"] - content.add_manifest()["size"]
    assert facts_of(content, three).size == (expected + 2**63) % 2**64 - 2**63


def test_the_target_s_own_size_counts_as_the_record_says_it() -> None:
    content = Blobs()
    target = content.add_manifest()
    said = descriptor(target)._replace(size=1_000_000)
    grown = 1_000_000 - target["size"]
    assert read_image(said, content, linux_amd64()).size == facts_of(content, target).size + grown


def test_indexes_may_nest_deeper_than_python_recurses() -> None:
    content = Blobs()
    manifest = content.add_manifest()
    target = nested_indexes(content, manifest, DOCUMENTS_LIMIT - 2)
    assert facts_of(content, target).id == facts_of(content, manifest).id


def test_more_documents_than_the_limit_are_refused() -> None:
    content = Blobs()
    target = nested_indexes(content, content.add_manifest(), DOCUMENTS_LIMIT - 1)
    with pytest.raises(CorruptContentError, match="more than 1000 documents"):
        facts_of(content, target)
    assert content.reads <= DOCUMENTS_LIMIT


def test_a_fan_out_of_manifests_is_summed_without_walking_it() -> None:
    content = Blobs()
    manifest, total = content.add_manifest(layer(1, 100)), 0
    config_size = len(content.blobs[next(iter(content.blobs))])
    total = manifest["size"] + config_size + 100
    for _ in range(30):
        manifest = content.add_manifest(*[manifest] * 50)
        total = manifest["size"] + config_size + 50 * total
    assert facts_of(content, manifest).size == (total + 2**63) % 2**64 - 2**63
    assert content.reads == len(content.blobs)


def test_a_chain_of_manifests_may_be_deeper_than_python_recurses() -> None:
    content = Blobs()
    manifest = content.add_manifest()
    for _ in range(DOCUMENTS_LIMIT - 2):
        manifest = content.add_manifest(manifest)
    assert facts_of(content, manifest).size > manifest["size"] * DOCUMENTS_LIMIT / 2


def test_manifests_beside_one_another_count_against_the_limit() -> None:
    content = Blobs()
    many = [content.add_manifest(layer(number)) for number in range(DOCUMENTS_LIMIT)]
    with pytest.raises(CorruptContentError, match="more than 1000 documents") as caught:
        facts_of(content, content.add_manifest(*many))
    assert caught.value.stage is Stage.SIZE
    assert content.reads <= DOCUMENTS_LIMIT


def test_more_bytes_than_the_limit_are_refused() -> None:
    content = Blobs()
    each = 6 * 1024 * 1024
    large = [
        content.add(OCI_MANIFEST, b'{"config":{}}' + b" " * (each + number))
        for number in range(BYTES_LIMIT // each + 1)
    ]
    with pytest.raises(CorruptContentError, match="bytes") as caught:
        facts_of(content, content.add_manifest(*large))
    assert caught.value.stage is Stage.SIZE


def test_images_that_share_documents_share_their_limits() -> None:
    content = Blobs()
    targets = [descriptor(content.add_manifest(layer(number))) for number in range(3)]
    first = len(content.blobs[targets[0].digest]) + len(json.dumps(PLATFORM))
    shared = SharedDocuments(first)
    read_image(targets[0], content, linux_amd64(), shared)
    for target in targets[1:]:
        with pytest.raises(CorruptContentError, match=f"read by one sync exceed {first} bytes; sync again"):
            read_image(target, content, linux_amd64(), shared)
    assert content.reads == 3  # once the limit is met nothing is read


def test_large_documents_have_a_limit_of_their_own() -> None:
    content = Blobs()
    large = descriptor(content.add_manifest(config={**PLATFORM, "author": "x" * LARGE_BYTES}))
    other = descriptor(content.add_manifest(config={**PLATFORM, "author": "y" * LARGE_BYTES}))
    shared = SharedDocuments(large_limit=LARGE_BYTES * 3 // 2)
    read_image(large, content, linux_amd64(), shared)
    with pytest.raises(
        CorruptContentError, match=f"of more than {LARGE_BYTES} bytes read by one sync exceed"
    ):
        read_image(other, content, linux_amd64(), shared)
    assert read_image(descriptor(content.add_manifest(layer(1))), content, linux_amd64(), shared)


def test_a_document_that_many_targets_name_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Blobs()
    target = descriptor(content.add_manifest(layer(1)))
    decoded: list[str] = []

    def counted(document: bytes, name: str) -> Manifest:
        decoded.append(name)
        return parse_manifest(document, name)

    monkeypatch.setattr("imagekeep.oci.image_reader.parse_manifest", counted)
    shared = SharedDocuments()
    sizes = {read_image(target._replace(size=n), content, linux_amd64(), shared).size - n for n in range(8)}
    assert len(sizes) == 1
    assert decoded == [target.digest]


def test_a_document_that_is_none_is_refused_each_time_with_its_stage() -> None:
    content = Blobs()
    target = descriptor(content.add(OCI_MANIFEST, b"not json"))
    shared = SharedDocuments()
    for size in range(3):
        with pytest.raises(InvalidDocumentError, match="not valid JSON") as raised:
            read_image(target._replace(size=size), content, linux_amd64(), shared)
        assert raised.value.stage is Stage.DIFF_IDS
