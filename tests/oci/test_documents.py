"""Manifests and indexes as containerd decodes them."""

from __future__ import annotations

import pytest

from imagekeep.errors import InvalidDocumentError
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import (
    ENTRIES_LIMIT,
    Index,
    Manifest,
    parse_config_platform,
    parse_index,
    parse_manifest,
)
from imagekeep.platform import Platform

Reason = InvalidDocumentError.Reason


def test_a_descriptor_keeps_what_reading_an_image_needs() -> None:
    document = b"""{"manifests":[{"mediaType":"m","digest":"sha256:1","size":2,"data":"eA==","platform":
        {"os":"o","architecture":"a","variant":"v","os.version":"w","os.features":["f"]}}]}"""
    platform = Platform("o", "a", "v", "w", ("f",))
    assert parse_index(document, "doc") == Index((Descriptor("m", "sha256:1", 2, b"x", platform),))


def test_a_descriptor_s_missing_fields_are_go_s_zero_values() -> None:
    assert parse_manifest(b'{"layers":[{}]}', "doc") == Manifest(
        Descriptor("", "", 0), (Descriptor("", "", 0),)
    )


def test_an_empty_platform_is_a_platform_and_null_is_none() -> None:
    index = parse_index(b'{"manifests":[{"platform":{}},{"platform":null}]}', "doc")
    assert [entry.platform for entry in index.manifests] == [Platform("", ""), None]


def test_a_list_may_be_null() -> None:
    assert parse_index(b'{"manifests":null}', "doc") == Index(())


@pytest.mark.parametrize(
    "document",
    [
        b'{"manifests":null}',
        b'{"MANIFESTS":[]}',
        b'{"mediaType":"application/vnd.oci.image.index.v1+json"}',
        b'{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}',
        b'{"fsLayers":[]}',
    ],
)
def test_a_manifest_that_shows_another_kind_is_rejected(document: bytes) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_manifest(document, "doc")
    assert caught.value.reason is Reason.MEDIA_TYPE


@pytest.mark.parametrize(
    "document",
    [
        b'{"config":null}',
        b'{"Layers":[]}',
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}',
        b'{"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}',
        b'{"fslayers":null}',
    ],
)
def test_an_index_that_shows_another_kind_is_rejected(document: bytes) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_index(document, "doc")
    assert caught.value.reason is Reason.MEDIA_TYPE


@pytest.mark.parametrize(
    "field",
    [
        '"schemaVersion":"2"',
        '"mediaType":1',
        '"artifactType":1',
        '"subject":[]',
        '"subject":{"size":"1"}',
        '"annotations":{"a":1}',
    ],
)
def test_the_known_fields_that_nothing_needs_have_types_too(field: str) -> None:
    for parse in (parse_manifest, parse_index):
        with pytest.raises(InvalidDocumentError) as caught:
            parse(f"{{{field}}}".encode(), "doc")
        assert caught.value.reason is Reason.TYPE


@pytest.mark.parametrize(
    "field", ['"urls":{}', '"annotations":[]', '"artifactType":1', '"data":1', '"digest":1']
)
def test_the_known_fields_of_a_layer_have_types(field: str) -> None:
    with pytest.raises(InvalidDocumentError, match=r"layers\.0\."):
        parse_manifest(f'{{"layers":[{{{field}}}]}}'.encode(), "doc")


def test_the_platform_of_a_config_is_read_whatever_its_other_fields_are() -> None:
    document = b'{"os":"Linux","architecture":"x86_64","rootfs":7,"created":"yesterday"}'
    assert parse_config_platform(document, "doc") == Platform("Linux", "x86_64")


def test_more_entries_than_a_document_can_name_are_rejected() -> None:
    with pytest.raises(InvalidDocumentError, match="layers: more than"):
        parse_manifest(b'{"layers":[' + b"{}," * ENTRIES_LIMIT + b"{}]}", "doc")
