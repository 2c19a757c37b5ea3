"""What the documents beneath a target say of its image (containerd: internal/cri/store/image, getImage)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagekeep.errors import ImagekeepError, Stage
from imagekeep.oci.config import parse_diff_ids
from imagekeep.oci.identity import chain_id
from imagekeep.oci.manifest_selection import choose_manifest
from imagekeep.oci.reader import ImageReader
from imagekeep.oci.usage import compressed_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.oci.content import ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import PlatformMatcher


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image is on a platform.

    `id` is the digest of `config_json`, the config document byte for byte; `chain_id` is empty for an image
    without layers; `size` counts compressed bytes, and wraps at 64 bits as in Go.
    """

    id: str
    chain_id: str
    size: int
    config_json: bytes = field(repr=False)


def read_image(target: Descriptor, content: ContentReader, matcher: PlatformMatcher) -> ImageFacts:
    """Read the image that a target stands for on a platform (containerd: getImage, once it has the record).

    Raises ContentNotFoundError, InvalidDigestError, InvalidDocumentError, CorruptContentError and what the
    content raises. The error's `stage` says whether it came while the layers' ids or the size was read.
    """
    reader = ImageReader(content)
    with _at(Stage.DIFF_IDS):
        config = choose_manifest(target, reader, matcher).config
        config_json = reader.document(config)
        diff_ids = parse_diff_ids(config_json, config.digest)
    with _at(Stage.SIZE):
        size = compressed_size(target, reader, matcher)
    return ImageFacts(config.digest, chain_id(diff_ids), size, config_json)


@contextmanager
def _at(stage: Stage) -> Iterator[None]:
    """Note the stage on an error that passes."""
    try:
        yield
    except ImagekeepError as error:
        error.stage = stage
        raise
