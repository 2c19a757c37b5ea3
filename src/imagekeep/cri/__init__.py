"""The CRI image service on a Unix socket: `runtime.v1.ImageService` from the store; needs `imagekeep[cri]`.

::

    client ──> handlers ──> images, server_info     one event loop: reads of SQLite take microseconds
                               │        │
                               │        └──> cri_proxy    containerd's own CRI, for what only it can do
                               └──> mutations             threads: the source and the store's writes

A read never waits for a write, for the source, or for a slow client. The watcher, if the source supports watching,
runs in a thread with a store of its own; so does the metrics page.
"""

from __future__ import annotations

from imagekeep.errors import MissingExtraError

try:
    # What is missing is reported before any module of this package needs it.
    import google.protobuf  # noqa: F401
    import grpc  # noqa: F401
except ImportError as missing:
    raise MissingExtraError("grpcio or protobuf", "cri") from missing
