"""Signatures, SBOMs, attestations and parts of other entries in a layout are not images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.sources import artifacts
from imagekeep.sources.oci_layout import OCILayout
from tests.images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, REF_NAME, named

if TYPE_CHECKING:
    from tests.images import LayoutWriter

EMPTY = "application/vnd.oci.empty.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
FALLBACK = "sha256-" + "a" * 64


def manifest(
    layout: LayoutWriter, *, config: str = EMPTY, layer: str = EMPTY, **fields: Any
) -> dict[str, Any]:
    """Write a manifest with a config and a layer of these types; return its descriptor."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**layout.document({}, config)},
        "layers": [layout.document({}, layer)],
        **fields,
    }
    return layout.document(document, OCI_MANIFEST)


def names(source: OCILayout) -> set[str]:
    return {record.reference.partition("@")[0] for record in source.records()}


@pytest.fixture(params=["unnamed", "named"])
def entry(request: pytest.FixtureRequest) -> Any:
    """Return an entry with a name or without one."""
    return (lambda it: it) if request.param == "unnamed" else (lambda it: named(it, "artifact"))


@pytest.mark.parametrize(
    "fields",
    [
        {"artifactType": "application/spdx+json"},
        {"artifactType": "application/spdx+json", "config": IMAGE_CONFIG},
        {"config": "application/vnd.cncf.helm.config.v1+json"},
        {"config": "application/vnd.docker.plugin.v1+json"},
        {"config": IMAGE_CONFIG, "layer": SIGNATURE},
        {"config": IMAGE_CONFIG, "layer": "application/vnd.in-toto+json"},
        {"config": IMAGE_CONFIG, "layer": "application/vnd.dsse.envelope.v1+json"},
    ],
)
def test_an_artifact_by_its_manifest_is_not_listed(
    layout: LayoutWriter, source: OCILayout, entry: Any, fields: dict[str, Any]
) -> None:
    layout.write_index([named(layout.image(), "v1"), entry(manifest(layout, **fields))])
    assert names(source) == {"docker.io/library/shop:v1", "docker.io/library/shop"}
    assert len(source.records()) == 2


@pytest.mark.parametrize(
    "marks",
    [
        {"artifactType": "application/vnd.cncf.notary.signature"},
        {"annotations": {"kind": "dev.cosignproject.cosign/sigs"}},
        {"annotations": {"kind": "dev.cosignproject.cosign/atts"}},
        {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
        {"mediaType": "application/vnd.oci.artifact.manifest.v1+json"},
        {"mediaType": "application/json"},
    ],
)
def test_an_artifact_by_its_descriptor_is_not_listed(
    layout: LayoutWriter, source: OCILayout, marks: dict[str, Any]
) -> None:
    layout.write_index([{**layout.image(), **marks}])
    assert source.records() == []
    marks = {**marks, "annotations": {**marks.get("annotations", {}), REF_NAME: "v1"}}
    layout.write_index([{**layout.image(), **marks}])
    assert source.records() == []


@pytest.mark.parametrize(
    "marks",
    [
        {"artifactType": IMAGE_CONFIG},
        {"annotations": {"kind": "dev.cosignproject.cosign/image"}},
        {"platform": {"os": "linux", "architecture": "amd64"}},
    ],
)
def test_an_image_by_its_descriptor_is_listed(
    layout: LayoutWriter, source: OCILayout, marks: dict[str, Any]
) -> None:
    layout.write_index([{**layout.image(), **marks}])
    assert len(source.records()) == 1


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_whose_layers_have_any_other_type_is_listed(
    layout: LayoutWriter, source: OCILayout, media_type: str
) -> None:
    layout.write_index([manifest(layout, config=IMAGE_CONFIG, layer="application/vnd.example.layer")])
    assert len(source.records()) == 1


def test_an_unnamed_manifest_with_a_subject_belongs_to_another(
    layout: LayoutWriter, source: OCILayout
) -> None:
    image = layout.image()
    referrer = manifest(layout, config=IMAGE_CONFIG, subject=image)
    layout.write_index([named(image, "v1"), referrer])
    assert len(source.records()) == 2
    layout.write_index([named(image, "v1"), named(referrer, "v2")])
    assert len(source.records()) == 4


def test_the_entries_of_another_s_index_are_parts_of_it(layout: LayoutWriter, source: OCILayout) -> None:
    one, two = layout.image(platform=True), layout.image(architecture="arm64", platform=True)
    inner = layout.index([two])
    outer = layout.index([one, inner])
    layout.write_index([one, two, inner, named(outer, "v1")])
    assert {record.target.digest for record in source.records()} == {outer["digest"]}
    layout.write_index([named(one, "part"), two, outer])
    assert {record.target.digest for record in source.records()} == {
        one["digest"],
        two["digest"],
        outer["digest"],
    }


@pytest.mark.parametrize("with_types", [True, False])
def test_the_fallback_tag_of_referrers_is_not_listed(
    layout: LayoutWriter, source: OCILayout, with_types: bool
) -> None:
    image = layout.image()
    referrers = [manifest(layout, artifactType="application/spdx+json", subject=image)]
    if with_types:
        referrers = [{**each, "artifactType": "application/spdx+json"} for each in referrers]
    layout.write_index([named(image, "v1"), named(layout.index(referrers), FALLBACK)])
    assert len(source.records()) == 2
    layout.write_index([named(image, "v1"), named(layout.index([]), FALLBACK)])
    assert len(source.records()) == 2


def test_an_entry_whose_document_is_missing_is_judged_again(layout: LayoutWriter, source: OCILayout) -> None:
    artifact = manifest(layout, artifactType="application/spdx+json")
    layout.write_index([named(layout.image(), "v1"), artifact])
    path = layout.path(artifact["digest"])
    content = path.read_bytes()
    path.unlink()
    assert len(source.records()) == 3
    path.write_bytes(content)
    assert len(source.records()) == 2


def test_an_invalid_document_is_listed_and_left_to_its_reader(
    layout: LayoutWriter, source: OCILayout
) -> None:
    broken = {"mediaType": OCI_MANIFEST, "digest": layout.blob(b"not json"), "size": 8}
    swapped = {"mediaType": OCI_INDEX, "digest": layout.image()["digest"], "size": 8}
    layout.write_index([named(broken, "v1"), named({**swapped, "mediaType": OCI_MANIFEST}, "v2")])
    assert len(source.records()) == 4


def test_the_bytes_read_for_a_listing_are_bounded(
    layout: LayoutWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.write_index([manifest(layout, artifactType="application/spdx+json", x=n) for n in range(3)])
    monkeypatch.setattr(artifacts, "LISTING_LIMIT", 1000)
    assert 0 < len(OCILayout(layout.directory).records()) < 3
    monkeypatch.setattr(artifacts, "DOCUMENT_LIMIT", 10)
    assert len(OCILayout(layout.directory).records()) == 3


def test_a_part_of_many_indexes_is_read_once(layout: LayoutWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    part = manifest(layout, artifactType="application/spdx+json")
    indexes = [layout.index([part] * count) for count in (1, 2, 3)]
    layout.write_index([named(index, f"v{number}") for number, index in enumerate(indexes)])
    monkeypatch.setattr(artifacts, "LISTING_LIMIT", sum(each["size"] for each in (part, *indexes)))
    assert OCILayout(layout.directory).records() == []
