"""Collects the metrics of the store, its watcher and its source, when they are scraped.

A metric whose value is not known has no sample: a zero would look like an answer.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from imagekeep.database.files import size_on_disk
from imagekeep.database.freeing import shared_content
from imagekeep.database.space import space_used
from imagekeep.errors import ImagekeepError
from imagekeep.reader import ask
from imagekeep.ship_status import read_ship_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from imagekeep.cri.drift import DriftCheck
    from imagekeep.cri.watcher_thread import WatcherReport
    from imagekeep.database.driver import sqlite
    from imagekeep.database.space import SpaceUsed
    from imagekeep.reader import Reader

SPACE_SHARE: Final = 20
"""The bytes are counted again after this many times the time that it took, as they cost a scan of every layer."""


class StoreCollector:
    """A collector for prometheus_client."""

    def __init__(
        self, reader: Reader, watcher: WatcherReport, source_socket: str | None, drift: DriftCheck | None
    ) -> None:
        self._reader = reader
        self._watcher_report = watcher
        self._source_socket = source_socket
        self._drift_check = drift
        self._space: SpaceUsed | None = None
        self._shared: int | None = None
        self._space_until = 0.0

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registration does not read the store."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; of a store that cannot be read, only those that need no reading."""
        try:
            stored = [*self._counts(), *self._bytes(), *self._watcher(), *self._shipping()]
        except ImagekeepError:
            stored = []
        yield _gauge("imagekeep_store_up", "Whether the store can be read.", bool(stored))
        writable = is_writable(self._reader.path)
        yield _gauge(
            "imagekeep_store_writable", "Whether the store can be written, and its disk has room.", writable
        )
        yield from stored
        yield from self._source()

    def _counts(self) -> Iterator[Metric]:
        counts = self._reader.counts()
        yield _gauge("imagekeep_images", "Images in the store.", counts.images)
        yield _gauge("imagekeep_references", "References in the store.", counts.references)
        yield _gauge("imagekeep_pins", "References that pin their image.", counts.pinned_refs)
        incomplete = len(self._reader.incomplete())
        yield _gauge("imagekeep_incomplete_references", "References whose image cannot be read.", incomplete)
        oldest = counts.oldest_verified_at
        yield _gauge(
            "imagekeep_oldest_verified_seconds",
            "Age of the oldest verification of a reference, in seconds.",
            time.time() - oldest.timestamp() if oldest else None,
        )
        yield _gauge("imagekeep_store_bytes", "Size of the store in bytes.", size_on_disk(self._reader.path))

    def _bytes(self) -> Iterator[Metric]:
        used = self._space_used()
        yield _gauge("imagekeep_images_in_use", "Images that a container uses.", used.in_use)
        yield _gauge("imagekeep_reclaimable_images", "Images that nothing uses or pins.", used.reclaimable)
        for name, described, value in (
            ("imagekeep_content_bytes", "Compressed size of all blobs, each once.", used.content_bytes),
            (
                "imagekeep_unpacked_bytes",
                "Size on disk of all unpacked layers, each once.",
                used.unpacked_bytes,
            ),
            (
                "imagekeep_shared_bytes",
                "Compressed size of blobs that several images need, each once.",
                self._shared,
            ),
        ):
            yield _gauge(name, described, value)
        reclaimable = GaugeMetricFamily(
            "imagekeep_reclaimable_bytes", "What removing the reclaimable images frees.", labels=["kind"]
        )
        for kind, value in (
            ("content", used.reclaimable_content_bytes),
            ("unpacked", used.reclaimable_unpacked_bytes),
        ):
            if value is not None:
                reclaimable.add_metric([kind], value)
        yield reclaimable

    def _space_used(self) -> SpaceUsed:
        began = time.monotonic()
        if self._space is None or began >= self._space_until:
            self._space, self._shared = ask(self._reader, _count_bytes, time.time_ns())
            took = time.monotonic() - began
            self._space_until = began + took * SPACE_SHARE
        return self._space

    def _watcher(self) -> Iterator[Metric]:
        watcher = self._watcher_report.state()
        following = watcher is not None and watcher.connected_at is not None
        yield _gauge(
            "imagekeep_source_followed", "Whether the watcher is connected to the source.", following
        )
        for name, described, value in (
            ("imagekeep_events", "Events received.", watcher.events if watcher else None),
            ("imagekeep_reconciles", "Full syncs by the watcher.", watcher.reconciles if watcher else None),
            ("imagekeep_watch_errors", "Errors of the watcher.", watcher.errors if watcher else None),
        ):
            yield CounterMetricFamily(name, described, value=value)
        for name, described, at in (
            (
                "imagekeep_last_reconcile_timestamp_seconds",
                "Time of the last full sync, since 1970.",
                watcher.last_reconcile_at if watcher else None,
            ),
            (
                "imagekeep_last_event_timestamp_seconds",
                "Time of the last event, since 1970.",
                watcher.last_event_at if watcher else None,
            ),
        ):
            yield _gauge(name, described, at.timestamp() if at else None)

    def _shipping(self) -> Iterator[Metric]:
        status = read_ship_status(self._reader.path)
        shipped_at = status.shipped_at if status else None
        yield _gauge(
            "imagekeep_ship_failures",
            "Shipments to the fleet's centre that failed in a row.",
            status.failures if status else None,
        )
        yield _gauge(
            "imagekeep_shipped_seconds",
            "Age of the last shipment to the fleet's centre, in seconds.",
            time.time() - shipped_at / 1e6 if shipped_at else None,
        )

    def _source(self) -> Iterator[Metric]:
        socket = self._source_socket
        up = None if socket is None else accepts_connections(socket)
        yield _gauge("imagekeep_source_up", "Whether containerd accepts connections.", up)
        drift = self._drift_check.last if self._drift_check is not None else None
        names = GaugeMetricFamily(
            "imagekeep_cri_drift_names",
            "Names by which containerd's CRI differs from containerd's records.",
            labels=["difference"],
        )
        for fault, count in drift.names.items() if drift else ():
            names.add_metric([fault.value], count)
        yield names
        yield _gauge(
            "imagekeep_cri_drift_checked_timestamp_seconds",
            "Time of the last comparison of containerd's CRI with its records, since 1970.",
            drift.at if drift else None,
        )


def _count_bytes(cursor: sqlite.Cursor, now: int) -> tuple[SpaceUsed, int | None]:
    (everything,) = space_used(cursor, now)
    return everything, shared_content(cursor)


def is_writable(store: Path) -> bool:
    """Return whether this process may write the store and its directory, and their disk has room."""
    try:
        return (
            os.access(store, os.W_OK, effective_ids=True)
            and os.access(store.parent, os.W_OK, effective_ids=True)
            and os.statvfs(store.parent).f_bavail > 0
        )
    except OSError:
        return False


def accepts_connections(socket: str) -> bool:
    """Return whether something listens at a socket."""
    # Imported here because the server answers from the store before it needs its source.
    from imagekeep.sources.containerd.connection import check_socket

    try:
        check_socket(socket)
    except ImagekeepError:
        return False
    return True


def _gauge(name: str, described: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge; without a sample if the value is not known."""
    return GaugeMetricFamily(name, described, value=value)
