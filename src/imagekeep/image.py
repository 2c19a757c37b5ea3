"""The types of an image on its way into the store.

::

    ImageRecord    a reference at a source: its target and labels         (containerd: images.Image)
    ObservedImage  the image for a platform, read from that target        (containerd: getImage)
    Observation    the images for all platforms, and what the target holds
    Image          the image in the store                                 (containerd: imagestore.Image)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from imagekeep.digest import validate
from imagekeep.errors import ImagekeepError, InvalidArgumentError
from imagekeep.oci.content import DOCUMENT_LIMIT
from imagekeep.reference import check_name, repo_digests, repo_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.oci.config import ImageConfig
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image import ImageFacts
    from imagekeep.oci.target import TargetFacts

PINNED_LABEL = "io.cri-containerd.pinned"
"""The label that pins a reference if its value is `pinned` (internal/cri/labels)."""

PINNED_VALUE = "pinned"

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """A reference at a source: its target and its labels."""

    reference: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Return whether the source pins this reference (containerd: internal/cri/store/image, getImage)."""
        return self.labels.get(PINNED_LABEL) == PINNED_VALUE


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """The image of a reference, as read from its source, and whether the reference pins it.

    `id` is the digest of `config_json`; `size` is in compressed bytes and wraps at 64 bits, as in Go.
    `target_digest` is None for an image that was added to the store without a source, and `manifest_digest`, the
    manifest chosen beneath the target, if that is not known.
    """

    id: str
    chain_id: str
    size: int
    config_json: bytes = field(repr=False)
    target_digest: str | None
    pinned: bool = False
    manifest_digest: str | None = None


def observed_of(record: ImageRecord, facts: ImageFacts) -> ObservedImage:
    """Join a record and the image that was read from its target."""
    return ObservedImage(
        facts.id,
        facts.chain_id,
        facts.size,
        facts.config_json,
        record.target.digest,
        record.pinned,
        facts.manifest_digest,
    )


@dataclass(frozen=True, slots=True)
class Observation:
    """What a source says of one reference, for each platform by itself.

    `images` has the image for a platform, or the error why it could not be read; `asked` has every platform for
    which the source was asked, and a reference does not exist for those without an image. If the reference is
    `gone`, it exists for none. `target` is what the target is made of.
    """

    images: Mapping[str, ObservedImage | ImagekeepError]
    asked: tuple[str, ...] = ()
    target: TargetFacts | None = None
    gone: bool = False

    def says_of(self, platform: str | None) -> ObservedImage | ImagekeepError | Literal["gone", "not asked"]:
        """Return what the source says of a platform."""
        if platform is not None and platform in self.images:
            return self.images[platform]
        return "gone" if self.gone or platform in self.asked else "not asked"

    @property
    def errors(self) -> dict[str, ImagekeepError]:
        """Return why the image could not be read, by platform."""
        return {name: said for name, said in self.images.items() if isinstance(said, ImagekeepError)}

    @property
    def image_id(self) -> str:
        """Return the id of the image for the first platform for which it could be read."""
        return next(image.id for image in self.images.values() if isinstance(image, ObservedImage))

    @property
    def held_bytes(self) -> int:
        """Return how many bytes of documents are held."""
        documents = self.target.documents if self.target else {}
        return sum(map(len, documents.values())) + sum(
            len(image.config_json) for image in self.images.values() if isinstance(image, ObservedImage)
        )


def require_image(images: Mapping[str, object]) -> None:
    """Raise the error for the first platform if the image could be read for none of them."""
    errors = [image for image in images.values() if isinstance(image, ImagekeepError)]
    if errors and len(errors) == len(images):
        raise errors[0]


GONE = Observation({}, gone=True)
"""The source has no such reference."""


def require_storable(reference: str, image: ObservedImage | None) -> None:
    """Raise InvalidReferenceError, InvalidDigestError or InvalidArgumentError for what no store can keep."""
    check_name(reference)
    if image is not None:
        validate(image.id)
        if not _SMALLEST <= image.size <= _LARGEST:
            raise InvalidArgumentError(f"image {image.id}: size does not fit in 64 bits")
        if len(image.config_json) > DOCUMENT_LIMIT:
            raise InvalidArgumentError(f"image {image.id}: config is larger than {DOCUMENT_LIMIT} bytes")
        if image.target_digest is not None:
            validate(image.target_digest)


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """An image in the store, without its config document.

    `platform` is the one that was asked for, empty for the store's first; it takes no part in comparisons.
    """

    id: str
    references: tuple[str, ...]
    chain_id: str
    size: int
    pinned: bool
    platform: str = field(default="", kw_only=True, compare=False)

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Return the references with a tag (containerd: ParseImageReferences)."""
        return repo_tags(self.references)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """Return the references with a digest (containerd: ParseImageReferences)."""
        return repo_digests(self.references)


@dataclass(frozen=True, slots=True)
class Image(ImageSummary):
    """An image in the store.

    `references` are in the order of distribution/reference's Sort, `size` is in compressed bytes, `chain_id` is
    empty for an image without layers, and `config_json` is the config document, byte for byte.
    """

    config_json: bytes = field(repr=False)

    @property
    def config(self) -> ImageConfig:
        """Decode the config document as Go does (image-spec, config)."""
        # Few callers need it, and importing the decoder takes a quarter of a short command's time.
        from imagekeep.oci.config import parse_config

        return parse_config(self.config_json, self.id)
