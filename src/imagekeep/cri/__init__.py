"""The CRI image service on a unix socket: `runtime.v1.ImageService` from the store; needs `imagekeep[cri]`.

::

    client ──> handlers ──> images, runtime, discovery    one event loop: reads of SQLite take microseconds
                               │        │
                               │        └──> relay        containerd's own CRI, for what only it can do
                               └──> changes               threads: the source and the store's writes

A read never waits for a write, for the source, or for another client's slowness. The watcher, where the source
tells of its changes, runs in a thread of its own with a store of its own.
"""

from __future__ import annotations

from imagekeep.errors import MissingExtraError

try:
    # What is missing is reported before any module of this package needs it.
    import google.protobuf  # noqa: F401
    import grpc  # noqa: F401
    import grpc_health.v1  # noqa: F401
    import grpc_reflection.v1alpha  # noqa: F401
except ImportError as missing:
    raise MissingExtraError("grpcio", "cri") from missing
