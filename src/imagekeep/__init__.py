"""A container host's image store, kept in one SQLite file, with the semantics of containerd's CRI plugin.

::

    from imagekeep import OCILayout, Store

    with Store.open("images.db", source=OCILayout("busybox")) as store:
        store.update("docker.io/library/busybox:1.36")
        image = store.local_resolve("busybox:1.36")

The public names are loaded when they are first used: a program that only reads starts without SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagekeep.database.queries import Counts, HistoryEntry
    from imagekeep.diff import Difference, DifferenceKind, find_differences
    from imagekeep.errors import (
        AlreadyWatchedError,
        AmbiguousError,
        Category,
        ContentNotFoundError,
        CorruptContentError,
        CorruptError,
        CorruptStoreError,
        FailedPreconditionError,
        ImagekeepError,
        ImageNotFoundError,
        ImagePinnedError,
        InvalidArgumentError,
        InvalidDigestError,
        InvalidDocumentError,
        InvalidPlatformError,
        InvalidReferenceError,
        MissingExtraError,
        NamespaceNotFoundError,
        NotAStoreError,
        NotFoundError,
        PermissionDeniedError,
        PinNeedsReferenceError,
        ReadOnlySourceError,
        SchemaVersionError,
        SourceFaultError,
        SourceMismatchError,
        SourceTimeoutError,
        SourceUnavailableError,
        SourceUnsupportedError,
        Stage,
        StoreBusyError,
        StoreReplacedError,
        StoreUnavailableError,
        UnavailableError,
        UntrustedFileError,
    )
    from imagekeep.identity import SourceIdentity, StoreIdentity
    from imagekeep.image import Image, ImageRecord, ImageSummary, ObservedImage
    from imagekeep.image_actions import Action, ActionResult, Actions
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import Platform
    from imagekeep.reader import Reader
    from imagekeep.sources.archive import Archive
    from imagekeep.sources.containerd import Containerd as Containerd
    from imagekeep.sources.oci_layout import OCILayout
    from imagekeep.sources.protocol import Changeable, Identified, Source, Watchable
    from imagekeep.sources.specifier import open_source
    from imagekeep.store import Store
    from imagekeep.sync import SyncReport
    from imagekeep.transition import Transition
    from imagekeep.watch import Watcher, WatchIntervals

_MODULES = {
    "Counts": "database.queries",
    "Difference": "diff",
    "DifferenceKind": "diff",
    "HistoryEntry": "database.queries",
    "Identified": "sources.protocol",
    "SourceIdentity": "identity",
    "StoreIdentity": "identity",
    "SyncReport": "sync",
    "WatchIntervals": "watch",
    "Watcher": "watch",
    "find_differences": "diff",
    "open_source": "sources.specifier",
    "Actions": "image_actions",
    "Archive": "sources.archive",
    "Changeable": "sources.protocol",
    "Containerd": "sources.containerd",
    "ContentInfo": "oci.content",
    "Action": "image_actions",
    "Descriptor": "oci.descriptor",
    "Image": "image",
    "ImageRecord": "image",
    "ImageSummary": "image",
    "ObservedImage": "image",
    "OCILayout": "sources.oci_layout",
    "ActionResult": "image_actions",
    "Platform": "platform",
    "Reader": "reader",
    "Source": "sources.protocol",
    "Store": "store",
    "Transition": "transition",
    "Watchable": "sources.protocol",
}

__all__ = [
    "Action",
    "ActionResult",
    "Actions",
    "AlreadyWatchedError",
    "AmbiguousError",
    "Archive",
    "Category",
    "Changeable",
    "ContentInfo",
    "ContentNotFoundError",
    "CorruptContentError",
    "CorruptError",
    "CorruptStoreError",
    "Counts",
    "Descriptor",
    "Difference",
    "DifferenceKind",
    "FailedPreconditionError",
    "HistoryEntry",
    "Identified",
    "Image",
    "ImageNotFoundError",
    "ImagePinnedError",
    "ImageRecord",
    "ImageSummary",
    "ImagekeepError",
    "InvalidArgumentError",
    "InvalidDigestError",
    "InvalidDocumentError",
    "InvalidPlatformError",
    "InvalidReferenceError",
    "MissingExtraError",
    "NamespaceNotFoundError",
    "NotAStoreError",
    "NotFoundError",
    "OCILayout",
    "ObservedImage",
    "PermissionDeniedError",
    "PinNeedsReferenceError",
    "Platform",
    "ReadOnlySourceError",
    "Reader",
    "SchemaVersionError",
    "Source",
    "SourceFaultError",
    "SourceIdentity",
    "SourceMismatchError",
    "SourceTimeoutError",
    "SourceUnavailableError",
    "SourceUnsupportedError",
    "Stage",
    "Store",
    "StoreBusyError",
    "StoreIdentity",
    "StoreReplacedError",
    "StoreUnavailableError",
    "SyncReport",
    "Transition",
    "UnavailableError",
    "UntrustedFileError",
    "WatchIntervals",
    "Watchable",
    "Watcher",
    "find_differences",
    "open_source",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("imagekeep")
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Containerd is public without standing in `__all__`: `import *` must not need an extra. The error classes are
    # the public names that stand in no table: they are all of one module.
    module = importlib.import_module(f"imagekeep.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__, *_MODULES})
