"""What a store knows of one platform of a reference's target."""

from __future__ import annotations

import enum
from typing import NamedTuple


class ContentState(enum.StrEnum):
    """How much of a manifest's content the source has.

    ABSENT means that the manifest itself is missing, PARTIAL that its config or a layer is, or that the manifest is
    broken.
    """

    COMPLETE = "complete"
    PARTIAL = "partial"
    ABSENT = "absent"


class TargetPlatform(NamedTuple):
    """One manifest beneath a target, and the platform it is for; None means not known yet.

    `platform` is normalized; None also if neither the index nor the config names one. `image_id` is the digest of
    the config. `size` adds up the compressed bytes of manifest, config and every occurrence of a layer. `chosen` is
    True if the manifest is the reference's image for a platform that the store keeps. `absent` counts the blobs
    known to be missing at the source, and `absent_bytes` their sizes, each blob once.
    """

    platform: str | None
    manifest_digest: str
    image_id: str | None
    size: int | None
    state: ContentState | None
    chosen: bool
    absent: int
    absent_bytes: int
