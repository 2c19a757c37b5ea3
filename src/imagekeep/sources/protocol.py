"""The protocols of a source and of the capabilities that some sources have.

A source lists references and reads content; it knows no platform. It is the counterpart of the Getter and the
InfoReaderProvider of containerd's image store. A class need not inherit from these protocols.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    InvalidDigestError,
    ReadOnlySourceError,
    SourceUnsupportedError,
)
from imagekeep.oci.content import ContentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from imagekeep.identity import SourceIdentity
    from imagekeep.image import ImageRecord
    from imagekeep.usage import ContainerRecord

log = logging.getLogger("imagekeep.sources")

Answer = TypeVar("Answer")

__all__ = [
    "Changeable",
    "ContainerEvent",
    "ContainerLister",
    "ContentLister",
    "Events",
    "Identified",
    "SnapshotLister",
    "Source",
    "SourceEvent",
    "Watchable",
    "contents_of",
    "identity_of",
    "is_watchable",
    "optional_answer",
    "require_changeable",
    "require_watchable",
]


@runtime_checkable
class Source(ContentReader, Protocol):
    """An image source. Its methods may be called from several threads at once.

    `read` and `info` are those of ContentReader.
    """

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this reference.

        Raises ImageNotFoundError if the source has no such reference: the store then deletes it. Any other error
        means that the source could not answer, and changes nothing.
        """
        ...

    def records(self) -> Iterable[ImageRecord]:
        """Return the record of each reference, each reference once; raises as `get` does."""
        ...

    def close(self) -> None:
        """End the calls in flight and release what the source holds; later calls may fail."""
        ...


class SourceEvent(Protocol):
    """A change to one reference at a source."""

    @property
    def reference(self) -> str:
        """Return the reference to read again."""
        ...

    @property
    def at(self) -> datetime:
        """Return the time of the change by the source's clock."""
        ...


class ContainerEvent(NamedTuple):
    """A change to one container at a source, or the start or end of its process; `at` is by the source's clock."""

    container_id: str
    at: datetime


class Events(Protocol):
    """A subscription: yields events until it is cancelled, and raises when it is lost."""

    def __iter__(self) -> Iterator[SourceEvent | ContainerEvent]: ...

    def cancel(self) -> None:
        """End the subscription, from any thread."""
        ...


@runtime_checkable
class Watchable(Source, Protocol):
    """A source that reports changes as they happen."""

    def subscribe(self) -> Events:
        """Subscribe to changes; raises SourceUnavailableError."""
        ...


@runtime_checkable
class Disconnectable(Source, Protocol):
    """A source with a connection that costs something while it is idle."""

    def disconnect(self) -> None:
        """Close the connection, but not the subscriptions; the next call opens another. Calls in flight fail."""
        ...


@runtime_checkable
class Changeable(Source, Protocol):
    """A source whose references can be removed and pinned.

    Each method raises ImageNotFoundError if the source has no such reference and, like `get`, other errors if the
    source could not answer; the change may then have been made or not.
    """

    def remove(self, reference: str, *, synchronous: bool = False) -> None:
        """Remove one reference; `synchronous` waits until content that only it needed is removed too."""
        ...

    def pin(self, reference: str) -> ImageRecord:
        """Protect the reference's image from garbage collection; return the new record."""
        ...

    def unpin(self, reference: str) -> ImageRecord:
        """Stop this reference from protecting its image; return the new record."""
        ...


@runtime_checkable
class ContentLister(Protocol):
    """A source that can list its blobs in one step."""

    def contents(self, digests: Collection[str] | None = None) -> Mapping[str, int]:
        """Return the size in bytes of each of these blobs, or of all; leave out missing ones and invalid digests.

        Raises as `Source.get` does.
        """
        ...


@runtime_checkable
class ContainerLister(Protocol):
    """A source that knows which containers use its images."""

    def containers(self, ids: Collection[str] | None = None) -> Collection[ContainerRecord]:
        """Return these containers, or all; leave out those that do not exist. Raises as `Source.get` does."""
        ...

    def parent_of(self, container: ContainerRecord) -> str | None:
        """Return the chain id of the layers beneath a container's own; None if it cannot be known."""
        ...


@runtime_checkable
class SnapshotLister(Protocol):
    """A source that unpacks the layers of its images."""

    @property
    def snapshotter(self) -> str:
        """Return the name of what unpacks the layers."""
        ...

    def unpacked(self) -> Collection[str]:
        """Return the chain ids of all unpacked layers; raises as `Source.get` does."""
        ...

    def unpacked_bytes(self, chain_ids: Collection[str]) -> Mapping[str, int]:
        """Return the bytes that each of these layers alone takes unpacked; leave out those that are not.

        Each may cost a call. Raises as `Source.get` does.
        """
        ...


@runtime_checkable
class Identified(Protocol):
    """A source that a store can remember."""

    @property
    def identity(self) -> SourceIdentity:
        """Return which source this is."""
        ...


def optional_answer(what: str, question: Callable[..., Answer], *arguments: object) -> Answer | None:
    """Return what a source answers besides records and documents, or None if it fails, and log why.

    Records and documents are worth having without the rest. A custom source may also raise other exceptions where
    it was never asked before.
    """
    try:
        return question(*arguments)
    except (
        SourceUnsupportedError,
        InvalidArgumentError,
    ) as error:  # not made to, or without that snapshotter
        log.debug("cannot list %s: %s", what, error)
    except ImagekeepError as error:
        log.warning("cannot list %s: %s", what, error)
    except Exception:
        log.warning("cannot list %s", what, exc_info=True)
    return None


@functools.cache
def _lists_contents(kind: type[ContentReader]) -> bool:
    """Return whether sources of a class list their blobs; asking each source takes as long as a small read."""
    return issubclass(kind, ContentLister)


def contents_of(source: ContentReader, digests: Collection[str]) -> Mapping[str, int]:
    """Return the size of each of these blobs that the source has; asks for each one if it cannot list them.

    Leaves out invalid digests, and what is not a blob, such as a directory. Raises as `Source.get` does.
    """
    if _lists_contents(type(source)):
        return cast("ContentLister", source).contents(digests)
    sizes: dict[str, int] = {}
    for digest in digests:
        try:
            sizes[digest] = source.info(digest).size
        except (ContentNotFoundError, CorruptContentError, InvalidDigestError):
            continue
    return sizes


def identity_of(source: Source) -> SourceIdentity | None:
    """Return which source this is, or None for one without an identity, as a custom source may be."""
    return source.identity if isinstance(source, Identified) else None


def is_watchable(source: Source) -> bool:
    """Return whether `require_watchable` would return this source."""
    return isinstance(source, Watchable)


def require_watchable(source: Source, name: str) -> Watchable:
    """Return a source that can be watched; `name` is its name in the FailedPreconditionError otherwise."""
    if not isinstance(source, Watchable):
        raise FailedPreconditionError(
            f"source {name} does not support watching (run `imagekeep sync` periodically)"
        )
    return source


def require_changeable(source: Source) -> Changeable:
    """Return a source that can be changed; raises ReadOnlySourceError for any other."""
    if not isinstance(source, Changeable):
        raise ReadOnlySourceError("source is read-only (change it with the tool that made it, then sync)")
    return source
