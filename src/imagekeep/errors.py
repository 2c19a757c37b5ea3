"""Every error that imagekeep raises on purpose.

::

    ImagekeepError
    ├── NotFoundError                 nothing has this name here
    │   ├── ImageNotFoundError        no image has this id, truncated id or reference
    │   ├── ContentNotFoundError      a source has no such blob, or no document for the platform
    │   └── NamespaceNotFoundError    containerd has no such namespace
    ├── InvalidArgumentError          the caller's words do not fit their grammar
    │   ├── InvalidDigestError
    │   ├── InvalidReferenceError
    │   └── InvalidPlatformError
    ├── AmbiguousError                a truncated id that more than one image begins with
    ├── FailedPreconditionError       right words, at a moment when they cannot be carried out
    │   ├── NotAStoreError            the file is something else
    │   ├── UntrustedFileError        another user could have made or changed the store's files
    │   ├── SchemaVersionError        the file's schema is older or newer than this imagekeep
    │   ├── AlreadyWatchedError       another watcher updates this store
    │   ├── SourceMismatchError       the store follows another source or namespace
    │   ├── PinNeedsReferenceError    a pin of a reference that the image does not have
    │   ├── ImagePinnedError          a pinned image is not removed unless forced
    │   ├── ReadOnlySourceError       the source cannot be changed
    │   ├── SourceUnsupportedError    the source does not know the request
    │   └── MissingExtraError         a package that only this needs is not installed
    ├── PermissionDeniedError         no permission to use the file or socket
    ├── UnavailableError              a thing needed did not answer; trying again may help
    │   ├── StoreBusyError            other writers held the store for longer than the wait
    │   ├── StoreUnavailableError     the disk is full, gone or read-only
    │   │   └── StoreReplacedError    the file was moved, replaced or deleted while it was open
    │   └── SourceUnavailableError    a source did not answer
    │       ├── SourceTimeoutError    a source did not answer in time
    │       └── SourceFaultError      a source answered that it failed at this one request
    └── CorruptError                  bytes that are not what they must be
        ├── CorruptStoreError         the SQLite file
        ├── CorruptContentError       a blob whose digest is not its name
        └── InvalidDocumentError      a manifest, index or config that Go would reject

The categories are closed, and map one to one onto gRPC codes and onto the exit codes of the command line
(the idea is that of containerd's errdefs). Messages name the identifier, the file and what to do; they
never carry the content of a config document, whose environment may hold secrets.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from imagekeep.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CANDIDATES_LIMIT = 10
"""How many ids an ambiguous one lists: enough to choose among, few enough to read."""


Made = TypeVar("Made", bound="ImagekeepError")


class Category(enum.StrEnum):
    """What kind of failure an error is: the part of it that a program acts on."""

    NOT_FOUND = "not_found"
    INVALID_ARGUMENT = "invalid_argument"
    AMBIGUOUS = "ambiguous"
    FAILED_PRECONDITION = "failed_precondition"
    PERMISSION_DENIED = "permission_denied"
    UNAVAILABLE = "unavailable"
    CORRUPT = "corrupt"


class Stage(enum.StrEnum):
    """Which part of reading an image failed; containerd's getImage has the same two that ever do."""

    DIFF_IDS = "diff_ids"
    SIZE = "size"


class ImagekeepError(Exception):
    """Base of all errors below; never raised itself.

    `reference` and `stage` are set where an image was being read from a source.
    """

    category: ClassVar[Category]
    reference: str | None = None
    stage: Stage | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return f"{printable(self.reference)}: {message}" if self.reference else message

    def __reduce__(self) -> tuple[Callable[..., ImagekeepError], tuple[Any, ...], dict[str, Any]]:
        """Let a copy be made in this process or, by pickle, in another one.

        Exception's own way calls the class with the message, which those with other arguments do not take.
        """
        return _made_again, (type(self), *self.args), self.__dict__


def _made_again(kind: type[Made], *arguments: object) -> Made:
    """Make an error that has its message already."""
    error = kind.__new__(kind, *arguments)
    super(ImagekeepError, error).__init__(*arguments)
    return error


class NotFoundError(ImagekeepError):
    """Raised when nothing has the name that was asked for."""

    category = Category.NOT_FOUND


class ImageNotFoundError(NotFoundError):
    """Raised when no image has this id, truncated id or reference."""


class ContentNotFoundError(NotFoundError):
    """Raised when a source lacks a blob, or when an index has no entry for the platform."""


class NamespaceNotFoundError(NotFoundError):
    """Raised when containerd has namespaces, but not the one that is asked; says which it has."""


class InvalidArgumentError(ImagekeepError):
    """Raised when an argument does not fit its grammar."""

    category = Category.INVALID_ARGUMENT


class InvalidDigestError(InvalidArgumentError):
    """Raised for a digest that go-digest's Validate rejects; `reason` tells its three errors apart."""

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
    """Raised for a name that is no image reference; `reason` is a word of the conformance data."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"invalid reference {printable(reference)}: {reason.replace('_', ' ')}")
        self.name = reference
        self.reason = reason


class InvalidPlatformError(InvalidArgumentError):
    """Raised for a platform specifier that containerd/platforms rejects."""


class AmbiguousError(ImagekeepError):
    """Raised for a truncated id that the ids of more than one image begin with.

    `candidates` are the first of those ids, at most CANDIDATES_LIMIT, and `total` is how many there are.
    """

    category = Category.AMBIGUOUS

    def __init__(self, truncated_id: str, candidates: Sequence[str], total: int | None = None) -> None:
        self.candidates = tuple(candidates[:CANDIDATES_LIMIT])
        self.total = len(candidates) if total is None else total
        unlisted = self.total - len(self.candidates)
        listed = ", ".join(self.candidates) + (f" and {unlisted} more" if unlisted else "")
        super().__init__(f"ambiguous image id {printable(truncated_id)}: {listed}; give more characters")


class FailedPreconditionError(ImagekeepError):
    """Raised when a request is well formed, but the state of things forbids it."""

    category = Category.FAILED_PRECONDITION


class NotAStoreError(FailedPreconditionError):
    """Raised when a file is not an imagekeep store: not SQLite, or another program's database."""


class UntrustedFileError(FailedPreconditionError):
    """Raised when another user could have made or changed a store's file, directory or a file beside it."""


class SchemaVersionError(FailedPreconditionError):
    """Raised when a store's schema is not this imagekeep's; names both revisions and what to run."""


class AlreadyWatchedError(FailedPreconditionError):
    """Another watcher updates this store."""


class SourceMismatchError(FailedPreconditionError):
    """The store follows another source, or another namespace of containerd."""


class PinNeedsReferenceError(FailedPreconditionError):
    """Raised when a pin names a reference that the image does not have."""


class ImagePinnedError(FailedPreconditionError):
    """Raised when a pinned image would be removed without being forced."""


class ReadOnlySourceError(FailedPreconditionError):
    """Raised when a source that cannot be changed (a layout, an archive) is asked to change."""


class SourceUnsupportedError(FailedPreconditionError):
    """Raised when a source does not know a request: one of its parts is off, or it is too old."""


class MissingExtraError(FailedPreconditionError, ImportError):
    """Raised when a package that an extra of imagekeep brings is not installed; says what to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; it comes with: pip install 'imagekeep[{extra}]'")


class PermissionDeniedError(ImagekeepError):
    """Raised when the system does not let this user use a file, a directory or a socket."""

    category = Category.PERMISSION_DENIED


class UnavailableError(ImagekeepError):
    """Raised when something needed did not answer; the same request may succeed later."""

    category = Category.UNAVAILABLE


class StoreBusyError(UnavailableError):
    """Raised when other writers held the store for longer than the stated wait."""


class StoreUnavailableError(UnavailableError):
    """Raised when the store's disk is full, read-only, gone or failing."""


class StoreReplacedError(StoreUnavailableError):
    """Raised when a store's file was moved, replaced or deleted while it was open; the next call opens it again."""


class SourceUnavailableError(UnavailableError):
    """Raised when a source did not answer."""


class SourceTimeoutError(SourceUnavailableError):
    """Raised when a source did not answer before the deadline."""


class SourceFaultError(SourceUnavailableError):
    """Raised when a source answers, and fails at this request: it cannot read one of its files, say."""


class CorruptError(ImagekeepError):
    """Raised when bytes are not what their name or their schema says."""

    category = Category.CORRUPT


class CorruptStoreError(CorruptError):
    """Raised when SQLite finds the store's file malformed."""


class CorruptContentError(CorruptError):
    """Raised when a blob's bytes do not have the digest that names them, or exceed the document cap."""


class InvalidDocumentError(CorruptError):
    """Raised for a manifest, index or config that containerd would reject, naming document and field."""

    class Reason(enum.StrEnum):
        """Why it was rejected, in the words of the conformance data."""

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
    """Return `str(value)` fit for a message: escaped for a terminal, and cut after `limit` characters."""
    text = str(value)
    return escape(text if len(text) <= limit else text[:limit] + "…") or '""'
