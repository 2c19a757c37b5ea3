"""A container host's image store, kept in one SQLite file, with the semantics of containerd's CRI plugin.

::

    from imagekeep import Store

    with Store.open("images.db", source="oci:busybox") as store:
        store.update("docker.io/library/busybox:1.36")
        image = store.find("busybox:1.36")

All errors are in `imagekeep.errors`; the common ones are here too. Public names are loaded when they are first
used, so a program that only reads starts without the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from imagekeep.database.presence import LookTimes
    from imagekeep.database.queries import Counts, HistoryEntry
    from imagekeep.diff import Difference, DifferenceKind, find_differences
    from imagekeep.errors import (
        AmbiguousError,
        Category,
        CorruptError,
        FailedPreconditionError,
        ImagekeepError,
        ImageNotFoundError,
        InvalidArgumentError,
        InvalidReferenceError,
        NotFoundError,
        PermissionDeniedError,
        SourceUnavailableError,
        StoreBusyError,
        StoreUnavailableError,
        UnavailableError,
    )
    from imagekeep.identity import SourceIdentity, StoreIdentity
    from imagekeep.image import Image, ImageRecord, ImageSummary, Observation, ObservedImage
    from imagekeep.image_actions import Action, ActionResult, Actions
    from imagekeep.oci.content import ContentInfo
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import Platform
    from imagekeep.platform_content import ContentState, TargetPlatform
    from imagekeep.reader import Reader
    from imagekeep.sources.archive import Archive
    from imagekeep.sources.containerd import Containerd as Containerd
    from imagekeep.sources.oci_layout import OCILayout
    from imagekeep.sources.protocol import (
        Changeable,
        ContainerEvent,
        ContainerLister,
        ContentLister,
        Identified,
        SnapshotLister,
        Source,
        SourceEvent,
        Watchable,
    )
    from imagekeep.sources.specifier import open_source
    from imagekeep.store import Store
    from imagekeep.sync import SyncReport
    from imagekeep.transition import ReferenceState, Transition
    from imagekeep.usage import Container, ContainerRecord, ImageUsage
    from imagekeep.watch import Watcher, WatchIntervals
    from imagekeep.watcher_status import IncompleteReference, WatcherState

_EXPORTS: Final = {
    "database.presence": ("LookTimes",),
    "database.queries": ("Counts", "HistoryEntry"),
    "diff": ("Difference", "DifferenceKind", "find_differences"),
    "identity": ("SourceIdentity", "StoreIdentity"),
    "image": ("Image", "ImageRecord", "ImageSummary", "Observation", "ObservedImage"),
    "image_actions": ("Action", "ActionResult", "Actions"),
    "oci.content": ("ContentInfo",),
    "oci.descriptor": ("Descriptor",),
    "platform": ("Platform",),
    "platform_content": ("ContentState", "TargetPlatform"),
    "reader": ("Reader",),
    "sources.archive": ("Archive",),
    "sources.containerd": ("Containerd",),
    "sources.oci_layout": ("OCILayout",),
    "sources.protocol": (
        "Changeable",
        "ContainerEvent",
        "ContainerLister",
        "ContentLister",
        "Identified",
        "SnapshotLister",
        "Source",
        "SourceEvent",
        "Watchable",
    ),
    "sources.specifier": ("open_source",),
    "store": ("Store",),
    "sync": ("SyncReport",),
    "transition": ("ReferenceState", "Transition"),
    "usage": ("Container", "ContainerRecord", "ImageUsage"),
    "watch": ("WatchIntervals", "Watcher"),
    "watcher_status": ("IncompleteReference", "WatcherState"),
}
_MODULES: Final = {name: module for module, names in _EXPORTS.items() for name in names}

# Containerd is public and not in `__all__`: `import *` must not need an extra.
__all__ = [
    "Action",
    "ActionResult",
    "Actions",
    "AmbiguousError",
    "Archive",
    "Category",
    "Changeable",
    "Container",
    "ContainerEvent",
    "ContainerLister",
    "ContainerRecord",
    "ContentInfo",
    "ContentLister",
    "ContentState",
    "CorruptError",
    "Counts",
    "Descriptor",
    "Difference",
    "DifferenceKind",
    "FailedPreconditionError",
    "HistoryEntry",
    "Identified",
    "Image",
    "ImageNotFoundError",
    "ImageRecord",
    "ImageSummary",
    "ImageUsage",
    "ImagekeepError",
    "IncompleteReference",
    "InvalidArgumentError",
    "InvalidReferenceError",
    "LookTimes",
    "NotFoundError",
    "OCILayout",
    "Observation",
    "ObservedImage",
    "PermissionDeniedError",
    "Platform",
    "Reader",
    "ReferenceState",
    "SnapshotLister",
    "Source",
    "SourceEvent",
    "SourceIdentity",
    "SourceUnavailableError",
    "Store",
    "StoreBusyError",
    "StoreIdentity",
    "StoreUnavailableError",
    "SyncReport",
    "TargetPlatform",
    "Transition",
    "UnavailableError",
    "WatchIntervals",
    "Watchable",
    "Watcher",
    "WatcherState",
    "find_differences",
    "open_source",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("imagekeep")
    # Every error may be imported from here too, though only the common ones are listed.
    if name not in _MODULES and not name.endswith("Error") and name not in ("Category", "Stage"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"imagekeep.{_MODULES.get(name, 'errors')}")
    try:
        return getattr(module, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__, *_MODULES})
