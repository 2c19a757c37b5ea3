"""The two calls of `runtime.v1.RuntimeService` that clients begin with: Version and Status.

gRPC itself answers UNIMPLEMENTED to all others: imagekeep runs no containers.
"""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from imagekeep.cri.protocol import STATUS, VERSION, RuntimeCondition
from imagekeep.errors import printable

if TYPE_CHECKING:
    from imagekeep.cri.handlers import Call
    from imagekeep.cri.watcher_thread import Following
    from imagekeep.protobuf import cri_pb2 as cri
    from imagekeep.watcher_status import WatcherState

KUBELET_API_VERSION: Final = "0.1.0"
"""What containerd says too; clients only look whether it is there (internal/cri/server/version.go)."""

NAME: Final = "imagekeep"


class RuntimeService:
    """Says who answers, and how things are."""

    def __init__(self, watcher: Following) -> None:
        self._watcher = watcher
        self._version = installed_version()

    async def version(self, request: cri.VersionRequest, call: Call) -> cri.VersionResponse:
        """Answer Version."""
        return VERSION.response(
            version=KUBELET_API_VERSION,
            runtime_name=NAME,
            runtime_version=self._version,
            runtime_api_version="v1",
        )

    async def status(self, request: cri.StatusRequest, call: Call) -> cri.StatusResponse:
        """Answer Status: no container and no network can be had here, and whether the source is followed."""
        watcher = self._watcher.state()
        info = {"watcher": json.dumps(dataclasses.asdict(watcher))} if watcher and request.verbose else {}
        reply = STATUS.response(info=info)
        reply.status.conditions.extend(
            [_images_only("RuntimeReady"), _images_only("NetworkReady"), source_condition(watcher)]
        )
        return reply


def installed_version() -> str:
    """Return imagekeep's version, or `unknown` where it runs without being installed."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"


def source_condition(watcher: WatcherState | None) -> cri.RuntimeCondition:
    """Return whether what is answered follows the source, as a condition of our own kind."""
    condition = RuntimeCondition(type="SourceFollowed")
    if watcher is None:
        condition.reason, condition.message = (
            "NoWatcher",
            "no watcher follows the source; answers are as of the last sync",
        )
    elif watcher.connected_at is None:
        condition.reason = "SourceUnavailable"
        condition.message = printable(watcher.last_error or "the source has not answered yet")
    else:
        condition.status = True
    return condition


def _images_only(kind: str) -> cri.RuntimeCondition:
    return RuntimeCondition(
        type=kind, reason="ImagesOnly", message="imagekeep serves images, and runs no containers"
    )
