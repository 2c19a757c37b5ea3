"""read_target: everything beneath a target, whatever is absent or broken."""

from __future__ import annotations

import base64

import pytest

from imagekeep.digest import digest_of
from imagekeep.errors import SourceUnavailableError
from imagekeep.oci import target as target_module
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import OCI_INDEX, REFERENCE_TYPE
from imagekeep.oci.image import chain_ids
from imagekeep.oci.image_reader import DOCUMENTS_LIMIT, ImageReader, SharedDocuments
from imagekeep.oci.target import SIZE_LIMIT, TRIES_LIMIT, TargetFacts, read_target
from tests.oci.blobs import CONFIG_TYPE, PLATFORM, Blobs, Entry, descriptor, layer

MOST_ENTRIES, MOST_LAYERS = 50_000, 70_000
"""As many as fit into a document."""

DIFF_IDS = [digest_of(b"one"), digest_of(b"two")]


def config(*diff_ids: str, **fields: object) -> dict[str, object]:
    return {**PLATFORM, "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}, **fields}


def read(blobs: Blobs, target: Entry, present: set[str] | None = None) -> TargetFacts:
    return read_target(descriptor(target), ImageReader(blobs), present)


def platforms(facts: TargetFacts) -> list[str | None]:
    return [entry.platform for entry in facts.entries]


def test_a_manifest_is_its_own_only_entry() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1, 10), layer(2, 20), config=config(*DIFF_IDS))
    facts = read(blobs, image)
    (entry,) = facts.entries
    assert (entry.position, entry.digest, entry.platform, entry.is_attestation) == (
        0,
        image["digest"],
        "linux/amd64",
        False,
    )
    manifest = facts.manifests[image["digest"]]
    assert manifest.layers == (layer(1)["digest"], layer(2)["digest"])
    assert manifest.diff_ids == tuple(DIFF_IDS)
    assert manifest.chain_ids == tuple(chain_ids(DIFF_IDS))
    assert manifest.compressed_size == image["size"] + len(blobs.blobs[manifest.config]) + 30


def test_documents_are_kept_byte_for_byte() -> None:
    blobs = Blobs()
    target = blobs.add_index(blobs.add_manifest(layer(1)))
    assert read(blobs, target).documents == blobs.blobs


def test_entries_are_depth_first_in_the_order_of_the_documents() -> None:
    blobs = Blobs()
    images = [blobs.add_manifest(layer(i), config=config(Env=i)) for i in range(4)]
    inner = blobs.add_index(images[1], images[2])
    facts = read(blobs, blobs.add_index(images[0], inner, images[3]))
    expected = [images[0], images[1], images[2], images[3]]
    assert [entry.digest for entry in facts.entries if entry.media_type != OCI_INDEX] == [
        image["digest"] for image in expected
    ]
    assert [entry.position for entry in facts.entries] == [0, 1, 2, 3, 4]
    assert facts.entries[1].digest == inner["digest"]


def test_an_entry_has_its_own_platform_before_that_of_its_config() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(platform={"os": "Linux", "architecture": "aarch64", "variant": "8"})
    other = blobs.add_manifest(config=config(variant="v1"))
    assert platforms(read(blobs, blobs.add_index(image, other))) == ["linux/arm64", "linux/amd64"]


def test_a_platform_keeps_its_version_and_features() -> None:
    blobs = Blobs()
    windows = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["b", "a"]}
    assert platforms(read(blobs, blobs.add_index(blobs.add_manifest(platform=windows)))) == [
        "windows(10.0.1+a+b)/amd64"
    ]


def test_a_platform_does_not_depend_on_the_host() -> None:
    blobs = Blobs()
    assert platforms(read(blobs, blobs.add_manifest(config={}))) == ["unknown"]


def test_a_config_that_is_broken_elsewhere_still_says_its_platform() -> None:
    blobs = Blobs()
    facts = read(blobs, blobs.add_manifest(config=config(created="never")))
    assert platforms(facts) == ["linux/amd64"]


@pytest.mark.parametrize(
    "mark",
    [
        {"annotations": {REFERENCE_TYPE: "attestation-manifest"}},
        {"platform": {"os": "unknown", "architecture": "unknown"}},
        {"platform": {"os": "linux", "architecture": "Unknown"}},
    ],
)
def test_an_attestation_is_marked(mark: dict[str, object]) -> None:
    blobs = Blobs()
    facts = read(blobs, blobs.add_index(blobs.add_manifest(**mark), blobs.add_manifest(layer(1))))
    assert [entry.is_attestation for entry in facts.entries] == [True, False]


def test_another_reference_type_is_not_an_attestation() -> None:
    blobs = Blobs()
    entry = blobs.add_manifest(annotations={REFERENCE_TYPE: "signature"})
    assert [entry.is_attestation for entry in read(blobs, blobs.add_index(entry)).entries] == [False]


def test_an_absent_manifest_leaves_its_entry_and_the_other_platforms() -> None:
    blobs = Blobs()
    arm = blobs.add_manifest(layer(1), config=config(architecture="arm64"), platform=PLATFORM)
    amd = blobs.add_manifest(layer(2))
    del blobs.blobs[arm["digest"]]
    facts = read(blobs, blobs.add_index(arm, amd))
    assert [entry.digest for entry in facts.entries] == [arm["digest"], amd["digest"]]
    assert list(facts.manifests) == [amd["digest"]]
    assert facts.absent == {arm["digest"]}


def test_an_absent_config_leaves_the_layers() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1), config=config(DIFF_IDS[0]))
    facts = read(blobs, image)
    del blobs.blobs[facts.manifests[image["digest"]].config]
    facts = read(blobs, image)
    manifest = facts.manifests[image["digest"]]
    assert manifest.layers == (layer(1)["digest"],)
    assert manifest.chain_ids == manifest.diff_ids == ()
    assert platforms(facts) == [None]


def test_only_what_the_source_is_known_to_have_is_looked_for() -> None:
    blobs = Blobs()
    arm, amd = (blobs.add_manifest(config=config(architecture=name)) for name in ("arm64", "amd64"))
    target = blobs.add_index(arm, amd)
    facts = read(blobs, target, set(blobs.blobs) - {arm["digest"]})
    assert facts.absent == {arm["digest"]}
    assert blobs.reads == 3


def test_presence_is_of_every_blob_where_it_is_known() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    (config_digest,) = set(blobs.blobs) - {image["digest"]}
    facts = read(blobs, image)
    assert facts.presence() == {image["digest"]: True, config_digest: True, layer(1)["digest"]: None}
    assert facts.with_present({image["digest"]}).presence() == {
        image["digest"]: True,
        config_digest: False,
        layer(1)["digest"]: False,
    }


def test_an_inline_config_is_read_although_its_blob_is_absent() -> None:
    blobs = Blobs()
    document = blobs.add(CONFIG_TYPE, config(DIFF_IDS[0]))
    content = blobs.blobs.pop(document["digest"])
    image = blobs.add(
        "application/vnd.oci.image.manifest.v1+json",
        {"config": document | {"data": base64.b64encode(content).decode()}, "layers": [layer(1)]},
    )
    facts = read(blobs, image, {image["digest"]})
    assert facts.manifests[image["digest"]].diff_ids == (DIFF_IDS[0],)
    assert facts.presence()[document["digest"]] is False


@pytest.mark.parametrize("broken", [b"{", b'{"layers": 1}', b'{"config": {"digest": "sha256:1"}}', b"{}"])
def test_a_broken_manifest_is_kept_but_has_no_facts(broken: bytes) -> None:
    blobs = Blobs()
    image = blobs.add("application/vnd.oci.image.manifest.v1+json", broken)
    facts = read(blobs, image)
    assert (facts.documents, facts.manifests) == ({image["digest"]: broken}, {})
    assert set(facts.blobs) == {image["digest"]}


def test_a_layer_with_an_invalid_digest_leaves_a_gap() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1) | {"digest": "md5:1"}, layer(2), config=config(*DIFF_IDS))
    facts = read(blobs, image)
    manifest = facts.manifests[image["digest"]]
    assert (manifest.layers, manifest.compressed_size) == ((None, layer(2)["digest"]), None)
    assert set(facts.blobs) == {image["digest"], manifest.config, layer(2)["digest"]}


def test_content_with_another_digest_is_neither_kept_nor_absent() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    blobs.blobs[image["digest"]] += b" "
    facts = read(blobs, image)
    assert (facts.documents, facts.absent, facts.presence()) == ({}, frozenset(), {image["digest"]: None})


def test_an_entry_with_an_invalid_digest_leaves_a_gap() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    facts = read(blobs, blobs.add_index(image | {"digest": "sha256:short"}, image))
    assert [(entry.position, entry.digest) for entry in facts.entries] == [(1, image["digest"])]


def test_a_target_with_an_invalid_digest_has_no_facts() -> None:
    assert read_target(Descriptor(OCI_INDEX, "x", 1), ImageReader(Blobs())) == TargetFacts("x")


def test_a_target_that_is_neither_manifest_nor_index_is_a_blob() -> None:
    blobs = Blobs()
    facts = read(blobs, blobs.add("text/plain", b"hello"))
    assert (facts.entries, list(facts.blobs)) == ((), list(blobs.blobs))


@pytest.mark.parametrize(
    ("size", "kept"), [(0, 0), (SIZE_LIMIT, SIZE_LIMIT), (SIZE_LIMIT + 1, None), (-1, None)]
)
def test_an_absurd_size_is_unknown_and_not_summed(size: int, kept: int | None) -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1, size))
    facts = read(blobs, image)
    assert facts.blobs[layer(1)["digest"]].size == kept
    manifest = facts.manifests[image["digest"]]
    assert manifest.compressed_size is not None
    assert manifest.compressed_size - image["size"] - len(facts.documents[manifest.config]) == (kept or 0)


def test_a_document_has_its_true_size() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    facts = read(blobs, image | {"size": 1})
    assert facts.blobs[image["digest"]].size == image["size"]


def test_a_repeated_manifest_is_an_entry_each_time_and_read_once() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    target = blobs.add_index(
        *[image | {"platform": {"os": f"s{i}", "architecture": "a"}} for i in range(500)]
    )
    facts = read(blobs, target)
    assert (len(facts.entries), len(facts.manifests), blobs.reads) == (500, 1, 3)


def test_another_number_of_diff_ids_than_of_layers_is_not_matched() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1), config=config(*DIFF_IDS))
    manifest = read(blobs, image).manifests[image["digest"]]
    assert (manifest.diff_ids, manifest.chain_ids) == ((), ())


def test_an_invalid_diff_id_leaves_the_layers_without_chains() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1), config=config("base"))
    manifest = read(blobs, image).manifests[image["digest"]]
    assert (manifest.layers, manifest.chain_ids) == ((layer(1)["digest"],), ())


def test_what_was_read_for_the_image_is_not_read_again() -> None:
    blobs = Blobs()
    image = blobs.add_manifest(layer(1))
    with ImageReader(blobs, SharedDocuments(limit=500)) as reader:
        manifest = reader.manifest(descriptor(image))
        reader.document(manifest.config)
        facts = read_target(descriptor(image), reader, set())
    assert (set(facts.manifests), blobs.reads) == ({image["digest"]}, 2)


class TestLimits:
    def test_an_index_as_large_as_a_document_may_be(self) -> None:
        blobs = Blobs()
        image = blobs.add_manifest(layer(1))
        kind = image["mediaType"]
        entries = [{"mediaType": kind, "digest": layer(i)["digest"]} for i in range(MOST_ENTRIES)]
        facts = read(blobs, blobs.add_index(image, *entries))
        assert (len(facts.entries), len(facts.manifests)) == (MOST_ENTRIES + 1, 1)
        assert blobs.reads <= TRIES_LIMIT

    def test_a_layer_that_occurs_as_often_as_a_document_can_say(self) -> None:
        blobs = Blobs()
        one = {"digest": layer(1)["digest"], "size": SIZE_LIMIT}
        image = blobs.add_manifest(*[one] * MOST_LAYERS, config=config())
        facts = read(blobs, image)
        manifest = facts.manifests[image["digest"]]
        assert (len(manifest.layers), len(facts.blobs)) == (MOST_LAYERS, 3)
        assert manifest.compressed_size is not None
        assert MOST_LAYERS * SIZE_LIMIT < manifest.compressed_size < 2**63

    def test_nested_indexes_that_blow_up_are_each_expanded_once(self) -> None:
        blobs = Blobs()
        target = blobs.add_manifest(layer(1))
        for _ in range(60):
            target = blobs.add_index(target, target)
        facts = read(blobs, target)
        assert (len(facts.entries), blobs.reads) == (120, 62)

    def test_a_deep_nest_is_read_as_far_as_the_limit(self) -> None:
        blobs = Blobs()
        target = blobs.add_manifest(layer(1))
        for _ in range(DOCUMENTS_LIMIT + 10):
            target = blobs.add_index(target)
        assert len(read(blobs, target).documents) == DOCUMENTS_LIMIT

    def test_parts_past_the_limit_are_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(target_module, "PARTS_LIMIT", 5)
        blobs = Blobs()
        large, small = blobs.add_manifest(*map(layer, range(4))), blobs.add_manifest(layer(9))
        facts = read(blobs, blobs.add_index(large, small))
        assert (len(facts.entries), set(facts.manifests)) == (2, {small["digest"]})

    def test_documents_of_other_platforms_leave_half_of_the_sync_to_its_other_images(self) -> None:
        blobs = Blobs()
        images = [blobs.add_manifest(layer(i), config=config(author="x" * 1_000, Env=i)) for i in range(9)]
        target = descriptor(blobs.add_index(*images))
        shared = SharedDocuments(limit=10_000)
        with ImageReader(blobs, shared) as reader:
            read_target(target, reader)
        with ImageReader(blobs, shared) as reader:
            assert reader.document(target)

    def test_a_source_that_fails_is_not_asked_again(self) -> None:
        class Failing(Blobs):
            def read(self, descriptor: Descriptor) -> bytes:
                if self.reads:
                    self.reads += 1
                    raise SourceUnavailableError("gone")
                return super().read(descriptor)

        blobs = Failing()
        target = blobs.add_index(*[blobs.add_manifest(layer(i)) for i in range(3)])
        facts = read(blobs, target)
        assert (len(facts.entries), len(facts.documents), facts.absent, blobs.reads) == (3, 1, frozenset(), 2)
