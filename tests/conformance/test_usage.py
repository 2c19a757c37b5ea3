"""read_image agrees with containerd's getImage on a content store."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    ImagekeepError,
    InvalidDigestError,
    InvalidDocumentError,
)
from imagekeep.image import ImageRecord
from imagekeep.oci.config import parse_config
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.image import read_image
from imagekeep.platform import Platform, PlatformMatcher, only, only_strict
from tests.conformance.data import cases, platform_of

if TYPE_CHECKING:
    from tests.conformance.data import Case

CASES = cases("usage")
HOST = Platform("linux", "amd64")


class Blobs:
    """A content reader of a case's blobs."""

    def __init__(self, blobs: dict[str, str]) -> None:
        self.blobs = {digest: blob.encode() for digest, blob in blobs.items()}

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.blobs:
            raise ContentNotFoundError(f"no blob {descriptor.digest}")
        return self.blobs[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        return ContentInfo(digest, len(self.blobs[digest]))


def matcher_of(case: Case) -> PlatformMatcher:
    make = {"only": only, "only_strict": only_strict}[case["platform"]["kind"]]
    return make(platform_of(case["platform"]["spec"]), HOST)


def target_of(case: Case) -> Descriptor:
    target = case["image"]["target"]
    return Descriptor(
        target.get("mediaType", ""),
        target["digest"],
        target.get("size", 0),
        base64.b64decode(target.get("data", "")),
        platform_of(target["platform"]) if "platform" in target else None,
    )


def error_class(error: ImagekeepError) -> str:
    """Return the class of the data, its two words for a bad digest and its four for JSON each as one."""
    match error:
        case ContentNotFoundError():
            return "not_found"
        case InvalidDigestError():
            return "digest"
        case InvalidDocumentError(reason=InvalidDocumentError.Reason.MEDIA_TYPE):
            return "media_type"
        case InvalidDocumentError():
            return "json"
    return type(error).__name__


def loosely(recorded: str) -> str:
    return {"invalid_argument": "digest"}.get(recorded, "json" if recorded.startswith("json_") else recorded)


ENCODED = [pytest.param(case, id=name) for name, case in CASES if "image_spec" in case.get("result", ())]
FOUND = [pytest.param(case, id=name) for name, case in CASES if "result" in case]
FAILED = [pytest.param(case, id=name) for name, case in CASES if "error" in case]


@pytest.mark.parametrize("case", FOUND)
def test_an_image_has_the_id_chain_id_and_size_that_go_found(case: Case) -> None:
    facts = read_image(target_of(case), Blobs(case["blobs"]), matcher_of(case))
    result = case["result"]
    assert (facts.id, facts.chain_id, facts.size) == (result["id"], result["chain_id"], result["size"])


@pytest.mark.parametrize("case", ENCODED)
def test_a_config_is_encoded_as_go_does(case: Case) -> None:
    facts = read_image(target_of(case), Blobs(case["blobs"]), matcher_of(case))
    assert json.dumps(parse_config(facts.config_json, facts.id)) == json.dumps(case["result"]["image_spec"])


@pytest.mark.parametrize("case", FOUND)
def test_a_record_is_pinned_if_go_says_so(case: Case) -> None:
    image, result = case["image"], case["result"]
    record = ImageRecord(image["name"], target_of(case), image.get("labels") or {})
    assert ([record.reference], record.pinned) == (result["references"], result["pinned"])


@pytest.mark.parametrize("case", FAILED)
def test_what_go_rejects_fails_at_the_same_stage_with_the_same_class(case: Case) -> None:
    with pytest.raises(ImagekeepError) as caught:
        read_image(target_of(case), Blobs(case["blobs"]), matcher_of(case))
    recorded = case["error"]
    assert (caught.value.stage, error_class(caught.value)) == (recorded["stage"], loosely(recorded["class"]))
