"""The frozen types that the other modules hand to one another.

An image on its way into the store passes through three of them::

    ImageRecord  what a source says of a reference: its target, its labels   (containerd: images.Image)
    Observed     what the target's documents say of the image for a platform (containerd: getImage)
    Image        what the store keeps                                        (containerd: imagestore.Image)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagekeep.digest import validate
from imagekeep.errors import InvalidArgumentError
from imagekeep.reference import check_name, repo_digests, repo_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.oci.config import ImageConfig
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image import ImageFacts

PINNED_LABEL = "io.cri-containerd.pinned"
"""The label by which a source pins a reference, when its value is exactly `pinned` (internal/cri/labels)."""

PINNED_VALUE = "pinned"

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a source says of one reference: the descriptor it points at, and its labels."""

    reference: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Return whether the source pins this reference (containerd: internal/cri/store/image, getImage)."""
        return self.labels.get(PINNED_LABEL) == PINNED_VALUE


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """What one reference was at its source when it was read: the image for the platform, and the pin.

    `id` is the digest of `config_json`; `size` counts compressed bytes, and wraps at 64 bits as in Go.
    `target_digest` is None where an image was given to the store without a source.
    """

    id: str
    chain_id: str
    size: int
    config_json: bytes = field(repr=False)
    target_digest: str | None
    pinned: bool = False


def observed_of(record: ImageRecord, facts: ImageFacts) -> ObservedImage:
    """Join what a record says of a reference and what the documents beneath its target say of the image."""
    return ObservedImage(
        facts.id, facts.chain_id, facts.size, facts.config_json, record.target.digest, record.pinned
    )


def require_storable(reference: str, image: ObservedImage | None) -> None:
    """Raise InvalidReferenceError, InvalidDigestError or InvalidArgumentError for what no store can keep."""
    check_name(reference)
    if image is not None:
        validate(image.id)
        if not _SMALLEST <= image.size <= _LARGEST:
            raise InvalidArgumentError(f"image {image.id}: its size does not fit in 64 bits")
        if image.target_digest is not None:
            validate(image.target_digest)


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What a list shows of an image: everything that the store keeps but its config document."""

    id: str
    references: tuple[str, ...]
    chain_id: str
    size: int
    pinned: bool

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Return the references that are a name and a tag (containerd: ParseImageReferences)."""
        return repo_tags(self.references)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """Return the references that are a name and a digest (containerd: ParseImageReferences)."""
        return repo_digests(self.references)


@dataclass(frozen=True, slots=True)
class Image(ImageSummary):
    """An image that the store keeps.

    `references` are in the order of distribution/reference's Sort, `size` counts compressed bytes, `chain_id`
    is empty for an image without layers, and `config_json` is the config document, byte for byte.
    """

    config_json: bytes = field(repr=False)

    @property
    def config(self) -> ImageConfig:
        """Decode the config document, as Go reads it (image-spec, config)."""
        # Most answers need no config, and what decodes one is a quarter of all that a short command imports.
        from imagekeep.oci.config import parse_config

        return parse_config(self.config_json, self.id)
