"""Where images really are: the protocol that every source fulfils; one module a source stands beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imagekeep.oci.content import ContentReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.image import ImageRecord

__all__ = ["Source"]


@runtime_checkable
class Source(ContentReader, Protocol):
    """Says what references there are, and gives the content beneath them.

    A source may be called from several threads at once. It is the counterpart of the Getter and the
    InfoReaderProvider that containerd's image store is made with.
    """

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError where the source has none: that is an answer, and the store follows it.
        Any other error means that the source could not answer, and changes nothing.
        """
        ...

    def references(self) -> Iterable[ImageRecord]:
        """Return the record of every reference the source has, each reference once."""
        ...
