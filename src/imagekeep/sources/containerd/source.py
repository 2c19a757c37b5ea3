"""containerd's images as a source: its records (images.v1), and the documents beneath them (content.v1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from imagekeep.digest import validate
from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    FailedPreconditionError,
    ImageNotFoundError,
    NamespaceNotFoundError,
    printable,
)
from imagekeep.identity import SourceIdentity
from imagekeep.image import PINNED_LABEL, PINNED_VALUE, ImageRecord
from imagekeep.oci.content import DOCUMENT_LIMIT, ContentInfo
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.containerd import protocol
from imagekeep.sources.containerd.connection import Connection
from imagekeep.sources.containerd.events import Subscription
from imagekeep.sources.containerd.names import check_namespace, name_of, reference_of

if TYPE_CHECKING:
    from imagekeep.protobuf import Method, Reply, Request
    from imagekeep.protobuf.containerd_images_pb2 import Image

DEFAULT_SOCKET: Final = "/run/containerd/containerd.sock"
DEFAULT_NAMESPACE: Final = "k8s.io"
"""The namespace of the CRI plugin (containerd: internal/cri/constants)."""

RECORDS_MAX: Final = 100_000
"""The most records that a listing may have; a node has hundreds."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How many seconds each kind of call may take.

    `call` is one that looks something up, which takes milliseconds, or a second where the disk is busy. `read`
    is the reading of one document, of at most 8 MiB. `removal` is a synchronous one, which waits for containerd's
    garbage collection: as long as a kubelet waits for it by default.
    """

    call: float = 10.0
    read: float = 30.0
    removal: float = 120.0


class ServerVersion(NamedTuple):
    """What a containerd says it is."""

    version: str
    revision: str


class Containerd:
    """The images of one namespace of a containerd; fulfils `Source` and `Changeable`.

    It is opened by the first call, may be used from several threads at once and in a child after a fork, and is
    closed by `close` or as a context manager. Every method raises SourceUnavailableError where containerd does
    not answer and SourceTimeoutError where not in time, PermissionDeniedError where the socket is not ours to
    use, InvalidArgumentError where it is no socket, and SourceUnsupportedError where containerd does not know
    the request.
    """

    def __init__(
        self,
        socket: str = DEFAULT_SOCKET,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Name the socket's path and the namespace; nothing is asked yet. Raises InvalidArgumentError."""
        check_namespace(namespace)
        self.socket = socket
        self.namespace = namespace
        self._timeouts = timeouts or Timeouts()
        self._connection = Connection(socket, namespace)
        self._namespace_seen = False

    def close(self) -> None:
        """End every call that is under way, subscriptions too, and take no more."""
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

        Raises ImageNotFoundError, InvalidReferenceError for what can be no name, and NamespaceNotFoundError.
        """
        request = protocol.GET_IMAGE.request(name=name_of(reference))
        return _record(self._ask(protocol.GET_IMAGE, request, reference).image, reference)

    def records(self) -> list[ImageRecord]:
        """Return every record, by one call.

        A name may be any text, and is kept as it is. What no store can keep is left out: a name that is no
        UTF-8, which containerd 1.6 lets in and no client of 2.x can ask for. Raises NamespaceNotFoundError, and
        FailedPreconditionError where there are more than RECORDS_MAX records, or more than 32 MiB of them.
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

        Raises InvalidDigestError, ContentNotFoundError, and CorruptContentError where it is larger.
        """
        validate(descriptor.digest)
        # One byte more than allowed tells a blob that is too large, and no more than that is ever sent.
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

    def version(self) -> ServerVersion:
        """Return what the containerd says it is; the cheapest call, to see whether it still answers."""
        request = protocol.VERSION.request()
        answer = self._connection.call(protocol.VERSION, request, timeout=self._timeouts.call)
        return ServerVersion(answer.version, answer.revision)

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces; one begins to be with the first image in it."""
        request = protocol.LIST_NAMESPACES.request()
        answer = self._connection.call(protocol.LIST_NAMESPACES, request, timeout=self._timeouts.call)
        return sorted(namespace.name for namespace in answer.namespaces)

    def subscribe(self) -> Subscription:
        """Ask for the events of this namespace's images from now on; raises here, or while they are read."""
        return Subscription(self._connection, self.namespace)

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

        The others stay, whoever changes them meanwhile: the update is masked to this key, and containerd takes
        an empty value for a removal (metadata/boltutil, WriteLabels). Raises as `get` does.
        """
        request = protocol.UPDATE_IMAGE.request()
        request.image.name = name_of(reference)
        # The mask leaves the target as it is. Without any, containerd 2.1 follows a nil pointer, and ends.
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
        """Make a call about one record; before it is said to be missing, the namespace is looked for."""
        missing = ImageNotFoundError(f"no image is named {printable(reference)}")
        try:
            return self._connection.call(
                method, request, timeout=timeout or self._timeouts.call, missing=missing
            )
        except ImageNotFoundError:
            self._require_namespace()
            raise

    def _require_namespace(self) -> None:
        """Raise NamespaceNotFoundError where containerd has namespaces, but not this one.

        It answers for a namespace that is not there as for one without images, and a store that followed a
        wrong name would lose everything. A containerd without any namespace is new: it really has no images.
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
    """Return what a record says, its texts as they are: of labels too, bytes that are no UTF-8 are kept."""
    labels = {_text(label.key): _text(label.value) for label in image.labels}
    target = image.target
    return ImageRecord(reference, Descriptor(target.media_type, target.digest, target.size), labels)


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogateescape")
