"""Reads the images of containerd: its records (images.v1) and their documents (content.v1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from imagekeep.digest import validate
from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    FailedPreconditionError,
    ImageNotFoundError,
    InvalidArgumentError,
    NamespaceNotFoundError,
    printable,
)
from imagekeep.identity import SourceIdentity
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.content import DOCUMENT_LIMIT, ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.containerd import listings, protocol
from imagekeep.sources.containerd.connection import Connection
from imagekeep.sources.containerd.events import Subscription
from imagekeep.sources.containerd.names import check_namespace, is_identifier, name_of, reference_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from imagekeep.protobuf import Method, Reply, Request
    from imagekeep.protobuf.containerd_images_pb2 import Image
    from imagekeep.usage import ContainerRecord

DEFAULT_SOCKET: Final = "/run/containerd/containerd.sock"
DEFAULT_NAMESPACE: Final = "k8s.io"
"""The namespace of the CRI plugin (containerd: internal/cri/constants)."""

DEFAULT_SNAPSHOTTER: Final = "overlayfs"
"""What unpacks layers unless the CRI plugin is configured otherwise (containerd: defaults)."""

RECORDS_MAX: Final = 100_000
"""Maximum number of records in a listing; a node has hundreds."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    `call` is for look-ups, which take milliseconds, or a second while the disk is busy. `read` is for a document of
    at most 8 MiB, or a listing. `removal` is for synchronous removals, which wait for containerd's garbage
    collection: as long as a kubelet waits by default.
    """

    call: float = 10.0
    read: float = 30.0
    removal: float = 120.0


class ServerVersion(NamedTuple):
    """The version of a containerd."""

    version: str
    revision: str


class Containerd:
    """The images in one namespace of a containerd; can be watched and changed, and knows their containers.

    The first call opens the connection; `close`, or leaving the context, closes it. Safe to use from several
    threads and in a forked child. Every method raises SourceUnavailableError if containerd does not answer,
    SourceTimeoutError if it does not in time, PermissionDeniedError for the socket, InvalidArgumentError if the
    path is not a socket, and SourceUnsupportedError if containerd does not know the request.
    """

    def __init__(
        self,
        socket: str = DEFAULT_SOCKET,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        snapshotter: str = DEFAULT_SNAPSHOTTER,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Take a socket's path, a namespace and a snapshotter; connect later. Raises InvalidArgumentError."""
        check_namespace(namespace)
        if not is_identifier(snapshotter):
            raise InvalidArgumentError(f"invalid containerd snapshotter {printable(snapshotter)}")
        self.socket = socket
        self.namespace = namespace
        self.snapshotter = snapshotter
        self._timeouts = timeouts or Timeouts()
        self._connection = Connection(socket, namespace)
        self._namespace_seen = False

    def close(self) -> None:
        """End every call in flight, subscriptions too, and accept no more."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> SourceIdentity:
        """Return which source this is, for a store to remember."""
        return SourceIdentity.of_path("containerd", self._connection.path, self.namespace)

    def get(self, reference: str) -> ImageRecord:
        """Return the record of exactly this name.

        Raises ImageNotFoundError, InvalidReferenceError and NamespaceNotFoundError.
        """
        request = protocol.GET_IMAGE.request(name=name_of(reference))
        return _record(self._ask(protocol.GET_IMAGE, request, reference).image, reference)

    def records(self) -> list[ImageRecord]:
        """Return every record, by one call.

        A name may be any text. Records that no store can keep are left out: those with a name that is not UTF-8,
        which containerd 1.6 accepts and no client of 2.x can ask for. Raises NamespaceNotFoundError, and
        FailedPreconditionError if there are more than RECORDS_MAX records, or more than 32 MiB of them.
        """
        request = protocol.LIST_IMAGES.request()
        images = self._connection.call(protocol.LIST_IMAGES, request, timeout=self._timeouts.call).images
        if not images:
            self._require_namespace()
        if len(images) > RECORDS_MAX:
            raise FailedPreconditionError(f"{self._connection}: more than {RECORDS_MAX} records")
        named = ((image, reference_of(image.name)) for image in images)
        return [_record(image, reference) for image, reference in named if reference is not None]

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob of at most the document cap, not verified.

        Raises InvalidDigestError, ContentNotFoundError, and CorruptContentError if it is larger.
        """
        validate(descriptor.digest)
        # One byte more than allowed is enough to find a blob that is too large.
        request = protocol.READ_CONTENT.request(digest=descriptor.digest, size=DOCUMENT_LIMIT + 1)
        missing = self._missing_blob(descriptor.digest)
        chunks, size = [], 0
        with self._connection.stream(
            protocol.READ_CONTENT, request, timeout=self._timeouts.read, missing=missing
        ) as answers:
            for answer in answers:
                chunks.append(answer.data)
                size += len(answer.data)
                if size > DOCUMENT_LIMIT:
                    raise CorruptContentError(
                        f"{descriptor.digest} is larger than a document may be ({DOCUMENT_LIMIT} bytes)"
                    )
        return b"".join(chunks)

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob; raises InvalidDigestError and ContentNotFoundError."""
        validate(digest)
        request = protocol.CONTENT_INFO.request(digest=digest)
        missing = self._missing_blob(digest)
        answer = self._connection.call(
            protocol.CONTENT_INFO, request, timeout=self._timeouts.call, missing=missing
        )
        return ContentInfo(digest, answer.info.size)

    def contents(self, digests: Collection[str] | None = None) -> dict[str, int]:
        """Return the sizes of these blobs, or of all, by one call; leave out those that containerd does not have.

        Raises NamespaceNotFoundError, and FailedPreconditionError for more than 500,000 blobs.
        """
        sizes = listings.blob_sizes(self._connection, digests, self._timeouts.read)
        if not sizes:
            self._require_namespace()
        return sizes

    def containers(self, ids: Collection[str] | None = None) -> list[ContainerRecord]:
        """Return these containers of the namespace, or all; leave out those that do not exist.

        Raises FailedPreconditionError for more than 10,000 containers.
        """
        return listings.list_containers(self._connection, ids, self._timeouts.read)

    def parent_of(self, container: ContainerRecord) -> str | None:
        """Return the chain id of the layers that a container was made from; None if containerd does not say."""
        if not container.snapshot_key:
            return None
        return listings.snapshot_parent(self._connection, container, self._timeouts.call)

    def unpacked(self) -> frozenset[str]:
        """Return the chain ids of all layers that the snapshotter has unpacked, by one call.

        Raises InvalidArgumentError if containerd has no such snapshotter, and FailedPreconditionError for more than
        500,000 snapshots.
        """
        return listings.committed_snapshots(self._connection, self.snapshotter, self._timeouts.read)

    def unpacked_bytes(self, chain_ids: Collection[str]) -> dict[str, int]:
        """Return the bytes that each of these layers alone takes unpacked, by a call for each."""
        return listings.snapshot_sizes(self._connection, self.snapshotter, chain_ids, self._timeouts.call)

    def version(self) -> ServerVersion:
        """Return the version of containerd; the cheapest call, to see whether it still answers."""
        request = protocol.VERSION.request()
        answer = self._connection.call(protocol.VERSION, request, timeout=self._timeouts.call)
        return ServerVersion(answer.version, answer.revision)

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces; a namespace exists from its first image on."""
        request = protocol.LIST_NAMESPACES.request()
        answer = self._connection.call(protocol.LIST_NAMESPACES, request, timeout=self._timeouts.call)
        return sorted(namespace.name for namespace in answer.namespaces)

    def subscribe(self) -> Subscription:
        """Subscribe to the events of this namespace's images; raises here, or while they are read."""
        return Subscription(self._connection, self.namespace)

    def disconnect(self) -> None:
        """Close the connection until the next call; subscriptions have their own."""
        self._connection.disconnect()

    def remove(self, reference: str, *, synchronous: bool = False) -> None:
        """Remove the record of exactly this name; raises as `get` does.

        `synchronous` waits until containerd has collected what only this record needed.
        """
        request = protocol.DELETE_IMAGE.request(name=name_of(reference), sync=synchronous)
        timeout = self._timeouts.removal if synchronous else self._timeouts.call
        self._ask(protocol.DELETE_IMAGE, request, reference, timeout)

    def pin(self, reference: str) -> ImageRecord:
        """Set the label that pins; return the record as it is now. Raises as `get` does."""
        return self.set_label(reference, PINNED_LABEL, PINNED_VALUE)

    def unpin(self, reference: str) -> ImageRecord:
        """Remove the label that pins; return the record as it is now. Raises as `get` does."""
        return self.set_label(reference, PINNED_LABEL, None)

    def set_label(self, reference: str, key: str, value: str | None) -> ImageRecord:
        """Set one label of a record, or remove it, in one step; return the record as it is now.

        The other labels stay, even if they change meanwhile: the update is masked to this key, and containerd
        removes a label whose value is empty (metadata/boltutil, WriteLabels). Raises as `get` does.
        """
        request = protocol.UPDATE_IMAGE.request()
        request.image.name = name_of(reference)
        # The mask leaves the target as it is. Without a target, containerd 2.1 dereferences nil and crashes.
        request.image.target.SetInParent()
        request.image.labels.add(key=key.encode(), value=(value or "").encode())
        request.update_mask.paths.append(f"labels.{key}")
        return _record(self._ask(protocol.UPDATE_IMAGE, request, reference).image, reference)

    def _ask(
        self,
        method: Method[Request, Reply],
        request: Request,
        reference: str,
        timeout: float | None = None,
    ) -> Reply:
        """Make a call about one record; if it is missing, check whether the namespace is."""
        missing = ImageNotFoundError(f"no such image: {printable(reference)}")
        try:
            return self._connection.call(
                method, request, timeout=timeout or self._timeouts.call, missing=missing
            )
        except ImageNotFoundError:
            self._require_namespace()
            raise

    def _require_namespace(self) -> None:
        """Raise NamespaceNotFoundError if containerd has namespaces, but not this one.

        containerd answers for a missing namespace as for an empty one, and a store with a mistyped namespace would
        lose everything. A containerd without any namespace is new, and really has no images.
        """
        if self._namespace_seen:
            return
        names = self.namespaces()
        if names and self.namespace not in names:
            known = printable(", ".join(names))
            raise NamespaceNotFoundError(
                f"{self._connection} has no namespace {self.namespace}; it has {known}"
            )
        self._namespace_seen = self.namespace in names

    def _missing_blob(self, digest: str) -> ContentNotFoundError:
        return ContentNotFoundError(f"{self._connection} has no blob {digest}")


def _record(image: Image, reference: str) -> ImageRecord:
    """Convert a record; bytes of labels that are not UTF-8 are kept as surrogates."""
    labels = {_text(label.key): _text(label.value) for label in image.labels}
    target = image.target
    return ImageRecord(reference, Descriptor(target.media_type, target.digest, target.size), labels)


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")
