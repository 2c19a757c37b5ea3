"""Metrics for Prometheus, off unless an address for them is given; needs `imagekeep[metrics]`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from imagekeep.database.size import size_on_disk
from imagekeep.errors import ImagekeepError, MissingExtraError

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.exposition import make_wsgi_app
except ImportError as missing:
    raise MissingExtraError("prometheus_client", "metrics") from missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIApplication

    from prometheus_client.core import Metric

    from imagekeep.cri.watcher_thread import Following
    from imagekeep.reader import Reader

_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30, 120)
"""From a read of one image, which takes a tenth of a millisecond, to a pull."""


class Metrics:
    """Counts calls, and looks at the store when it is asked."""

    def __init__(self, reader: Reader, watcher: Following) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "imagekeep_grpc_calls", "Calls that ended.", ["method", "code"], registry=self._registry
        )
        self._latency = Histogram(
            "imagekeep_grpc_seconds",
            "How long calls took.",
            ["method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_StoreCollector(reader, watcher))

    def observe(self, path: str, code: str, seconds: float) -> None:
        """Count a call that ended: its method's path, the name of its code, and how long it took."""
        method = path.rpartition("/")[2]
        self._calls.labels(method, code).inc()
        self._latency.labels(method).observe(seconds)

    def page(self) -> WSGIApplication:
        """Return the page as prometheus_client serves it: in the format that is asked for, compressed or not."""
        return make_wsgi_app(self._registry)


class _StoreCollector:
    """Reads the store's numbers whenever they are collected."""

    def __init__(self, reader: Reader, watcher: Following) -> None:
        self._reader = reader
        self._current = watcher

    def describe(self) -> Iterator[Metric]:
        """Give nothing: the names are told when they are collected, and the store need not answer before."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Give the store's numbers, or only that it cannot be read."""
        try:
            metrics = [*self._counts(), *self._watcher()]
        except ImagekeepError:
            yield GaugeMetricFamily("imagekeep_store_up", "Whether the store can be read.", value=0)
            return
        yield GaugeMetricFamily("imagekeep_store_up", "Whether the store can be read.", value=1)
        yield from metrics

    def _counts(self) -> Iterator[Metric]:
        counts = self._reader.counts()
        yield GaugeMetricFamily("imagekeep_images", "Images in the store.", value=counts.images)
        yield GaugeMetricFamily("imagekeep_references", "References in the store.", value=counts.references)
        yield GaugeMetricFamily(
            "imagekeep_pins", "References that pin their image.", value=counts.pinned_refs
        )
        if counts.oldest_verified_at is not None:
            yield GaugeMetricFamily(
                "imagekeep_oldest_verified_seconds",
                "Seconds since the source last confirmed the reference that it confirmed longest ago.",
                value=time.time() - counts.oldest_verified_at / 1e6,
            )
        size = size_on_disk(self._reader.path)
        yield GaugeMetricFamily("imagekeep_store_bytes", "Size of the store's file.", value=size)

    def _watcher(self) -> Iterator[Metric]:
        watcher = self._current.state()
        following = watcher is not None and watcher.connected_at is not None
        yield GaugeMetricFamily(
            "imagekeep_source_followed", "Whether events are heard.", value=int(following)
        )
        if watcher is None:
            return
        yield CounterMetricFamily("imagekeep_events", "Events followed.", value=watcher.events)
        yield CounterMetricFamily("imagekeep_reconciles", "Reconciles done.", value=watcher.reconciles)
        yield CounterMetricFamily("imagekeep_watch_errors", "Failures of the watcher.", value=watcher.errors)
