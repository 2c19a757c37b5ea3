"""An image as lists show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagekeep.reference import repo_digests, repo_tags

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image of a list; None means unknown or not requested.

    `references` are in docker's order and `targets` their targets' digests. Sizes are in compressed bytes, and
    `created` in nanoseconds since 1970. `unique_size` is of what no other image in the store has.
    """

    id: str
    references: tuple[str, ...]
    size: int | None
    pinned: bool
    targets: tuple[str | None, ...] = ()
    created: int | None = None
    platform: str | None = None
    first_seen: datetime | None = None
    last_used: datetime | None = None
    containers: int | None = None
    state: str | None = None
    unique_size: int | None = None
    shared_size: int | None = None

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Return the references with a tag (containerd: ParseImageReferences)."""
        return repo_tags(self.references)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """Return the references with a digest (containerd: ParseImageReferences)."""
        return repo_digests(self.references)
