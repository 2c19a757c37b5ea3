"""The trees of content_check: what is present of them, and how the answers name descriptors."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from imagekeep.errors import ContentNotFoundError
from imagekeep.image import ImageRecord
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.image_reader import ImageReader
from imagekeep.oci.target import TargetFacts, read_target
from imagekeep.platform import Platform, PlatformMatcher, only
from tests.conformance.data import platform_of
from tests.conformance.matchers import EVERYTHING, HOST

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.conformance.data import Case


REFERENCE = "registry.test/app:v1"


class Tree:
    """A source of one target, and the part of its content that is present."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.documents: dict[str, bytes] = {digest: text.encode() for digest, text in case["blobs"].items()}
        self.layers: dict[str, int] = case["layers"]
        self.target = descriptor_of(case["target"])

    def read(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.documents:
            raise ContentNotFoundError(f"no blob {descriptor.digest}")
        return self.documents[descriptor.digest]

    def info(self, digest: str) -> ContentInfo:
        return ContentInfo(digest, self.contents([digest])[digest])

    def contents(self, digests: Collection[str] | None = None) -> dict[str, int]:
        sizes = {digest: len(document) for digest, document in self.documents.items()} | self.layers
        return {digest: size for digest, size in sizes.items() if digests is None or digest in digests}

    def get(self, reference: str) -> ImageRecord:
        return ImageRecord(reference, self.target)

    def records(self) -> list[ImageRecord]:
        return [self.get(REFERENCE)]

    def close(self) -> None:
        pass

    @property
    def present(self) -> set[str]:
        return {*self.documents, *self.layers}

    @property
    def reader(self) -> ImageReader:
        return ImageReader(self)

    @cached_property
    def facts(self) -> TargetFacts:
        return read_target(self.target, self.reader, self.present)

    def digests(self, numbers: list[int]) -> list[str]:
        """Return the digests of the descriptors that an answer names by number."""
        return [self.case["descriptors"][number].get("digest", "") for number in numbers]


def descriptor_of(fields: Case) -> Descriptor:
    return Descriptor(
        fields.get("mediaType", ""),
        fields.get("digest", ""),
        fields.get("size", 0),
        platform=platform_of(fields["platform"]) if "platform" in fields else None,
    )


def matcher_of(specifier: str) -> PlatformMatcher:
    return EVERYTHING if specifier == "all" else only(Platform.parse(specifier, HOST), HOST)
