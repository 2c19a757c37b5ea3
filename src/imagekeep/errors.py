"""Every error that imagekeep raises on purpose.

::

    ImagekeepError
    ├── NotFoundError                 nothing has this name
    │   ├── ImageNotFoundError        no image has this id, truncated id or reference
    │   ├── ContentNotFoundError      the source has no such blob, or no manifest for the platform
    │   └── NamespaceNotFoundError    containerd has no such namespace
    ├── InvalidArgumentError          an argument is malformed
    │   ├── InvalidDigestError
    │   ├── InvalidReferenceError
    │   └── InvalidPlatformError
    ├── AmbiguousError                a truncated id matches more than one image
    ├── FailedPreconditionError       the request is valid, but not in this state
    │   ├── NotAStoreError            the file is not an imagekeep store
    │   ├── UntrustedFileError        another user could have made or changed the store's files
    │   ├── SchemaVersionError        the file's schema is older or newer than this imagekeep
    │   │   └── NewerSchemaError      it is newer
    │   ├── AlreadyWatchedError       another watcher updates this store
    │   ├── SourceMismatchError       the store follows another source or namespace
    │   ├── PinNeedsReferenceError    the image to pin does not have the reference
    │   ├── ImagePinnedError          a pinned image is only removed by force
    │   ├── ReadOnlySourceError       the source cannot be changed
    │   ├── SourceUnsupportedError    the source does not support the request
    │   ├── CentreRefusedError        the fleet's centre refuses the call
    │   ├── CentreVersionError        the fleet's centre is of another release
    │   └── MissingExtraError         an optional package is not installed
    ├── PermissionDeniedError         no permission to use the file or socket
    ├── UnavailableError              something needed did not answer; retrying may help
    │   ├── StoreBusyError            timed out waiting for other writers
    │   ├── StoreUnavailableError     the file is missing, or the disk is full, failing or read-only
    │   │   └── StoreReplacedError    the file was moved, replaced or deleted while it was open
    │   ├── CentreUnavailableError    the fleet's centre did not answer
    │   │   ├── CentreBusyError       the fleet's centre is too busy
    │   │   └── CursorMovedError      something else shipped for this node meanwhile
    │   └── SourceUnavailableError    a source did not answer
    │       ├── SourceTimeoutError    the source timed out
    │       └── SourceFaultError      the source failed at this one request
    └── CorruptError                  damaged or invalid content
        ├── CorruptStoreError         the SQLite file is damaged
        ├── CorruptContentError       a blob does not match its digest
        ├── CentreFaultError          the fleet's centre gave a malformed answer
        └── InvalidDocumentError      containerd would reject this manifest, index or config

The categories are a closed set, as in containerd's errdefs: each is one gRPC code and one exit code. Messages name
the identifier, the file and what to do. They never quote a config document, whose environment may hold secrets.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from imagekeep.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANDIDATES_LIMIT = 10
"""Maximum candidates that AmbiguousError lists."""


Error = TypeVar("Error", bound="ImagekeepError")


class Category(enum.StrEnum):
    """The kind of an error, for programs to act on."""

    NOT_FOUND = "not_found"
    INVALID_ARGUMENT = "invalid_argument"
    AMBIGUOUS = "ambiguous"
    FAILED_PRECONDITION = "failed_precondition"
    PERMISSION_DENIED = "permission_denied"
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"


class Stage(enum.StrEnum):
    """The step at which reading an image failed; the two that can fail in containerd's getImage."""

    DIFF_IDS = "diff_ids"
    SIZE = "size"


class ImagekeepError(Exception):
    """Base of all errors; never raised itself.

    `reference` and `stage` are set if the error came from reading an image from a source.
    """

    category: ClassVar[Category]
    reference: str | None = None
    stage: Stage | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return f"{printable(self.reference)}: {message}" if self.reference else message

    def __reduce__(self) -> tuple[Callable[..., ImagekeepError], tuple[Any, ...], dict[str, Any]]:
        """Let errors be copied and pickled: Exception would call `__init__` with the message alone."""
        return _rebuild, (type(self), *self.args), self.__dict__


def _rebuild(kind: type[Error], *arguments: object) -> Error:
    """Rebuild a pickled error without calling its `__init__`."""
    error = kind.__new__(kind, *arguments)
    super(ImagekeepError, error).__init__(*arguments)
    return error


class NotFoundError(ImagekeepError):
    """Raised when nothing has the requested name."""

    category = Category.NOT_FOUND


class ImageNotFoundError(NotFoundError):
    """Raised when no image has this id, truncated id or reference."""


class ContentNotFoundError(NotFoundError):
    """Raised when a source has no such blob, or an index has no manifest for the platform."""


class NamespaceNotFoundError(NotFoundError):
    """Raised when containerd does not have the requested namespace; lists those it has."""


class InvalidArgumentError(ImagekeepError):
    """Raised when an argument is malformed."""

    category = Category.INVALID_ARGUMENT


class InvalidDigestError(InvalidArgumentError):
    """Raised for a digest that go-digest's Validate rejects; `reason` is one of its three errors."""

    class Reason(enum.StrEnum):
        """The three errors of go-digest, in the words of the conformance data."""

        FORMAT = "invalid_digest_format"
        LENGTH = "invalid_digest_length"
        ALGORITHM = "unsupported_algorithm"

    def __init__(self, digest: str, reason: Reason) -> None:
        super().__init__(f"invalid digest {printable(digest)}: {reason.value.replace('_', ' ')}")
        self.digest = digest
        self.reason = reason


class InvalidReferenceError(InvalidArgumentError):
    """Raised for a name that is not an image reference; `reason` is a word of the conformance data."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"invalid reference {printable(reference)}: {reason.replace('_', ' ')}")
        self.name = reference
        self.reason = reason


class InvalidPlatformError(InvalidArgumentError):
    """Raised for a platform specifier that containerd/platforms rejects."""


class AmbiguousError(ImagekeepError):
    """Raised for a truncated id that matches more than one image.

    `candidates` are the first CANDIDATES_LIMIT of the matching ids, and `total` is their number.
    """

    category = Category.AMBIGUOUS

    def __init__(self, truncated_id: str, candidates: Sequence[str], total: int | None = None) -> None:
        self.candidates = tuple(candidates[:CANDIDATES_LIMIT])
        self.total = len(candidates) if total is None else total
        unlisted = self.total - len(self.candidates)
        listed = ", ".join(self.candidates) + (f" and {unlisted} more" if unlisted else "")
        super().__init__(f"ambiguous image id {printable(truncated_id)}: {listed} (give more characters)")


class FailedPreconditionError(ImagekeepError):
    """Raised when a request is valid, but not in the current state."""

    category = Category.FAILED_PRECONDITION


class NotAStoreError(FailedPreconditionError):
    """Raised when a file is not an imagekeep store: not SQLite, or another program's database."""


class UntrustedFileError(FailedPreconditionError):
    """Raised when another user could have made or changed a store's file, directory or a file beside it."""


class SchemaVersionError(FailedPreconditionError):
    """Raised when a store's schema is not this imagekeep's; names both revisions and what to run."""


class NewerSchemaError(SchemaVersionError):
    """Raised when a later imagekeep has written or migrated a store; only that one, or a later one, can use it."""


class AlreadyWatchedError(FailedPreconditionError):
    """Raised when another watcher updates this store."""


class SourceMismatchError(FailedPreconditionError):
    """Raised when the store follows another source, or another namespace of containerd."""


class PinNeedsReferenceError(FailedPreconditionError):
    """Raised when a pin names a reference that the image does not have."""


class ImagePinnedError(FailedPreconditionError):
    """Raised when a pinned image would be removed without force."""


class ReadOnlySourceError(FailedPreconditionError):
    """Raised when a read-only source, such as a layout or an archive, would have to change."""


class SourceUnsupportedError(FailedPreconditionError):
    """Raised when a source does not support a request: it is too old, or a plugin is off."""


class CentreRefusedError(FailedPreconditionError):
    """Raised when a fleet's centre refuses a call: the node is not enrolled or conflicted, or over a limit."""


class CentreVersionError(FailedPreconditionError):
    """Raised when a fleet's centre has no schema, or that of a release which this one cannot talk to."""


class MissingExtraError(FailedPreconditionError, ImportError):
    """Raised when a package of one of imagekeep's extras is not installed; says what to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed (run: pip install 'imagekeep[{extra}]')")


class PermissionDeniedError(ImagekeepError):
    """Raised when this user may not use a file, a directory or a socket."""

    category = Category.PERMISSION_DENIED


class UnavailableError(ImagekeepError):
    """Raised when something needed did not answer; the same request may succeed later."""

    category = Category.UNAVAILABLE


class StoreBusyError(UnavailableError):
    """Raised when waiting for other writers timed out."""


class StoreUnavailableError(UnavailableError):
    """Raised when the store's file is missing, or its disk is full, read-only or failing."""


class StoreReplacedError(StoreUnavailableError):
    """Raised when a store's file was moved, replaced or deleted while open; the next call opens it again."""


class CentreUnavailableError(UnavailableError):
    """Raised when a fleet's centre did not answer; nothing is lost, and the next shipment sends it."""


class CentreBusyError(CentreUnavailableError):
    """Raised when as many nodes send snapshots as the centre takes at once."""


class CursorMovedError(CentreUnavailableError):
    """Raised when the centre is not where this shipment left it: another store ships for the same node."""


class SourceUnavailableError(UnavailableError):
    """Raised when a source did not answer."""


class SourceTimeoutError(SourceUnavailableError):
    """Raised when a source did not answer before the deadline."""


class SourceFaultError(SourceUnavailableError):
    """Raised when a source answers but fails at this request, such as on an unreadable file."""


class CorruptError(ImagekeepError):
    """Raised for damaged or invalid content."""

    category = Category.CORRUPT


class CorruptStoreError(CorruptError):
    """Raised when SQLite finds the store's file malformed."""


class CorruptContentError(CorruptError):
    """Raised when a blob does not match its digest, or a document is too large."""


class CentreFaultError(CorruptError):
    """Raised when a fleet's centre gives an answer that it cannot mean."""


class InvalidDocumentError(CorruptError):
    """Raised for a manifest, index or config that containerd would reject; names the document and field."""

    class Reason(enum.StrEnum):
        """The cause, in the words of the conformance data."""

        SYNTAX = "json_syntax"
        TYPE = "json_type"
        TIME = "json_time"
        BASE64 = "json_base64"
        MEDIA_TYPE = "media_type"

    def __init__(self, document: str, reason: Reason, detail: str) -> None:
        super().__init__(f"document {printable(document)}: {detail}")
        self.document = document
        self.reason = reason


def printable(value: object, limit: int = 200) -> str:
    """Return `str(value)` for a message: escaped for a terminal and cut after `limit` characters."""
    text = str(value)
    return escape(text if len(text) <= limit else text[:limit] + "…") or '""'


def from_os_error(error: OSError, what: str, kind: type[ImagekeepError]) -> ImagekeepError:
    """Return the error for a failed system call: PermissionDeniedError, or `kind` for other reasons."""
    chosen = PermissionDeniedError if isinstance(error, PermissionError) else kind
    return chosen(f"{what}: {error.strerror}")
