"""Serves `runtime.v1.ImageService` from the store on a Unix socket; needs `imagekeep[cri]`.

::

    client ──> handlers ──> images, server_info     one event loop: reads of SQLite take microseconds
                               │        │
                               │        └──> cri_proxy    containerd's own CRI, for pulls and disk usage
                               └──> mutations             threads that change the source and write to the store

A read never waits for a write, the source, or a slow client. The watcher runs in a thread with its own store, if
the source supports watching; the metrics page runs in another thread.
"""

from __future__ import annotations

from imagekeep.errors import MissingExtraError

try:
    # Report a missing extra before any module of this package imports it.
    import google.protobuf  # noqa: F401
    import grpc  # noqa: F401
except ImportError as missing:
    raise MissingExtraError("grpcio or protobuf", "cri") from missing
