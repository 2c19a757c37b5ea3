"""Runs removals and pulls in a thread pool, so that reads do not wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from imagekeep.cri.handlers import Code, RpcError
from imagekeep.errors import ImagekeepError
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.protocol import require_changeable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from imagekeep.image import Image
    from imagekeep.store import Store
    from imagekeep.watcher_status import FilesystemUsage

    StoreFactory = Callable[[], AbstractContextManager[Store]]

Answer = TypeVar("Answer")

THREADS: Final = 8
"""Concurrent mutations. Each waits for containerd, then for the store's writer lock."""

WAITING_MAX: Final = 64
"""Maximum mutations running or waiting; a kubelet removes images one after another."""


class Mutations:
    """Removes images and records pulls, in a store opened on first use.

    `store_factory` opens the store with its source; it is None if the server has no source.
    """

    def __init__(self, store_factory: StoreFactory | None) -> None:
        self._store_factory = store_factory
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="imagekeep-changes")
        self._opened = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._waiting = 0

    async def remove(self, image: Image) -> None:
        """Remove every reference of an image at the source, and update the store after each.

        Raises ReadOnlySourceError, and the errors of source and store.
        """
        await self._run(lambda store: remove_image(store, image))

    async def follow_pull(self, name: str, image_id: str) -> None:
        """Update the store after a pull of `name`; raises the errors of source and store."""
        await self._run(lambda store: follow_pull(store, name, image_id))

    async def record_usage(self, usage: FilesystemUsage) -> None:
        """Record the usage of the source's filesystem; raises the store's errors."""
        await self._run(lambda store: _record(store, usage))

    def close(self) -> None:
        """Cancel calls in flight at the source, wait for the threads, and close the store."""
        if self._store is not None:
            close_source(self._store)
        self._pool.shutdown(cancel_futures=True)
        self._opened.close()

    async def _run(self, change: Callable[[Store], Answer]) -> Answer:
        """Run a mutation in a thread; raises RpcError if too many are waiting."""
        if self._waiting >= WAITING_MAX:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{WAITING_MAX} changes are pending; try again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: change(self._open_store())
            )
        finally:
            self._waiting -= 1

    def _open_store(self) -> Store:
        if self._store_factory is None:
            raise RpcError(
                Code.FAILED_PRECONDITION, "images cannot be changed: imagekeep runs without a source"
            )
        with self._lock:
            if self._store is None:
                self._store = self._opened.enter_context(self._store_factory())
            return self._store


def remove_image(store: Store, image: Image) -> None:
    """Remove every reference of an image at the source; raises as `remove_references` does."""
    from imagekeep.image_actions import remove_references
    from imagekeep.internals import require_source

    for _ in remove_references(store, require_changeable(require_source(store)), image.references):
        pass  # the CRI reports only that all were removed


def _record(store: Store, usage: FilesystemUsage) -> None:
    # Imported here, in a thread, as all that a server needs only to write.
    from imagekeep.internals import record_image_filesystem

    record_image_filesystem(store, usage)


def follow_pull(store: Store, name: str, image_id: str) -> None:
    """Update the references that a pull creates: name, digest and image id (containerd: PullImage).

    Raises the first error of a reference that could not be read.
    """
    from imagekeep.internals import require_source
    from imagekeep.sync import sync

    pulled = parse_docker_ref(name)
    target = require_source(store).get(str(pulled)).target.digest
    report = sync(store, [str(pulled), f"{pulled.name}@{target}", image_id])
    for error in report.failures.values():
        raise error


def close_source(store: Store) -> None:
    """Cancel every call in flight at a store's source."""
    close = getattr(store.source, "close", None)
    if close is not None:
        with contextlib.suppress(ImagekeepError):
            close()
