"""The identity of a store and of its source, by which a sync from another source is noticed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self

from imagekeep.paths import full_path

if TYPE_CHECKING:
    from pathlib import Path


class SourceIdentity(NamedTuple):
    """A source: its specifier with an absolute path, and containerd's namespace."""

    specifier: str
    namespace: str | None = None

    @classmethod
    def of_path(cls, scheme: str, path: str | Path, namespace: str | None = None) -> Self:
        """Return the identity of a source at a path; bytes that are not UTF-8 are escaped."""
        specifier = f"{scheme}:{full_path(path)}"
        return cls(
            specifier.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), namespace
        )

    def is_same(self, other: SourceIdentity) -> bool:
        """Return whether both are one source: their paths are equal as written, or after following links.

        So /var/run/containerd/containerd.sock is /run/containerd/containerd.sock, and a layout behind a link stays
        the same when the link is pointed at its next version.
        """
        if self.namespace != other.namespace:
            return False
        return self.specifier == other.specifier or self._resolved() == other._resolved()

    def _resolved(self) -> str:
        scheme, _, place = self.specifier.partition(":")
        return f"{scheme}:{os.path.realpath(place)}"

    def __str__(self) -> str:
        return f"{self.specifier} (namespace {self.namespace})" if self.namespace else self.specifier


class StoreIdentity(NamedTuple):
    """A store: its random id, renewed by a restore, the source of its last full sync, and its platforms."""

    store_id: str
    follows: SourceIdentity | None
    platforms: tuple[str, ...] = ()
