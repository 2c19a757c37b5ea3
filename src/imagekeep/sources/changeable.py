"""Sources that can be changed: containerd can, a layout and an archive cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imagekeep.errors import ReadOnlySourceError
from imagekeep.sources import Source

if TYPE_CHECKING:
    from imagekeep.image import ImageRecord


@runtime_checkable
class Changeable(Source, Protocol):
    """A source whose references can be removed and pinned.

    Each raises ImageNotFoundError where the source has no record of exactly this reference, and, as `get`
    does, other errors where the source could not answer; it may then have done what was asked, or not.
    """

    def remove(self, reference: str, *, synchronous: bool = False) -> None:
        """Remove one reference; `synchronous` waits until what only it needed is removed too."""
        ...

    def pin(self, reference: str) -> ImageRecord:
        """Keep the reference's image from garbage collection; return the record as it is now."""
        ...

    def unpin(self, reference: str) -> ImageRecord:
        """Let the reference no longer keep its image; return the record as it is now."""
        ...


def require_changeable(source: Source) -> Changeable:
    """Return the source as one that can be changed; raises ReadOnlySourceError where it is none."""
    if not isinstance(source, Changeable):
        raise ReadOnlySourceError(
            f"{type(source).__name__} is a source that is only read; change it where it is made, then sync"
        )
    return source
