"""containerd as a source, over its gRPC services; needs what the extra `imagekeep[containerd]` installs."""

from __future__ import annotations

from imagekeep.sources.containerd.events import ImageEvent, Subscription, Topic
from imagekeep.sources.containerd.source import (
    DEFAULT_NAMESPACE,
    DEFAULT_SNAPSHOTTER,
    DEFAULT_SOCKET,
    Containerd,
    ServerVersion,
    Timeouts,
)

__all__ = [
    "DEFAULT_NAMESPACE",
    "DEFAULT_SNAPSHOTTER",
    "DEFAULT_SOCKET",
    "Containerd",
    "ImageEvent",
    "ServerVersion",
    "Subscription",
    "Timeouts",
    "Topic",
]
