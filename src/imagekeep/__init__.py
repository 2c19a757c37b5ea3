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
    from imagekeep.errors import (
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
    from imagekeep.image import Image, ImageRecord, ImageSummary, ObservedImage
    from imagekeep.image_actions import Action, ActionResult, Actions
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import Platform
    from imagekeep.reader import Reader
    from imagekeep.sources.archive import Archive
    from imagekeep.sources.containerd import Containerd as Containerd
    from imagekeep.sources.oci_layout import OCILayout
    from imagekeep.sources.protocol import Changeable, Source, Watchable
    from imagekeep.store import Store
    from imagekeep.transition import Transition

_MODULES = {
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
    "AmbiguousError",
    "Archive",
    "Category",
    "Changeable",
    "ContentInfo",
    "ContentNotFoundError",
    "CorruptContentError",
    "CorruptError",
    "CorruptStoreError",
    "Descriptor",
    "FailedPreconditionError",
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
    "SourceTimeoutError",
    "SourceUnavailableError",
    "SourceUnsupportedError",
    "Stage",
    "Store",
    "StoreBusyError",
    "StoreReplacedError",
    "StoreUnavailableError",
    "Transition",
    "UnavailableError",
    "UntrustedFileError",
    "Watchable",
]


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Containerd is public without standing in `__all__`: `import *` must not need an extra. The error classes are
    # the public names that stand in no table: they are all of one module.
    module = importlib.import_module(f"imagekeep.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
