"""The descriptor, by which one document points at another blob (image-spec, descriptor)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imagekeep.platform import Platform


class Descriptor(NamedTuple):
    """Names a blob by media type, digest and size in bytes.

    `size` is what the descriptor states, which may be wrong or negative. `data` is the blob itself if the
    descriptor carries it inline. `platform` is None if the descriptor has none. `reference_type` is the value of
    BuildKit's annotation for an entry that is not an image, empty without it.

    It is a tuple because an image has many of them, each made once and looked up several times: a dataclass took
    three times as long.
    """

    media_type: str
    digest: str
    size: int
    data: bytes = b""
    platform: Platform | None = None
    reference_type: str = ""

    def __repr__(self) -> str:
        """Leave the blob out: a config holds an environment."""
        named = f"{self.media_type!r}, {self.digest!r}, {self.size!r}, platform={self.platform!r}"
        return f"{type(self).__name__}({named})"
