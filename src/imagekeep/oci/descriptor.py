"""The descriptor, by which one document points at another blob (image-spec, descriptor)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagekeep.platform import Platform


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names a blob by media type, digest and size in bytes.

    `size` is what the descriptor says, which may be wrong or negative. `data` is the blob itself where the
    descriptor carries it inline. `platform` is None where the descriptor has none.
    """

    media_type: str
    digest: str
    size: int
    data: bytes = field(default=b"", repr=False)
    platform: Platform | None = None
