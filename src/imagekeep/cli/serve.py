"""`imagekeep serve`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.allocator import keep_small
from imagekeep.cli.command import command
from imagekeep.cli.logs import log_format, log_level, start_logging
from imagekeep.cri.addresses import parse_tcp_address
from imagekeep.cri.cri_proxy import cri_socket_of
from imagekeep.cri.server import ServerConfig, serve_until_signal
from imagekeep.cri.sockets import Access, parse_address
from imagekeep.cri.watcher_thread import WatcherThread
from imagekeep.database.revision import exists
from imagekeep.sources.protocol import is_watchable
from imagekeep.sources.specifier import STANDARD_INPUT_MARK, open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from imagekeep.cli.settings import Settings
    from imagekeep.cri.mutations import StoreFactory
    from imagekeep.sources.protocol import Source
    from imagekeep.store import Store

log = logging.getLogger("imagekeep.cri")


def _parse_mode(_context: click.Context, _option: click.Parameter, mode: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", mode):
        raise click.BadParameter("must be octal, such as 0660")
    return int(mode, 8)


@command(
    "imagekeep --source containerd serve",
    "imagekeep --source containerd serve --socket-mode 0660 --socket-group kube --metrics 127.0.0.1:9323",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="unix:///run/imagekeep/imagekeep.sock",
    show_default=True,
    help="Socket to listen on.",
)
@click.option(
    "--socket-mode",
    metavar="MODE",
    default="0600",
    show_default=True,
    callback=_parse_mode,
    help="Socket mode, in octal.",
)
@click.option("--socket-group", metavar="GROUP", help="Socket group; the server's by default.")
@click.option("--metrics", metavar="ADDRESS", help="Serve Prometheus metrics at this IP:PORT.")
@click.option(
    "--cri-check",
    metavar="SECONDS",
    type=click.FloatRange(0),
    default=600,
    show_default=True,
    help="With --metrics, compare containerd's CRI this often; 0 for never.",
)
@click.option("--health", metavar="ADDRESS", help="Serve gRPC health, and nothing else, at this IP:PORT.")
@click.option("--filter-images", is_flag=True, help="Honor image filters in lists; containerd ignores them.")
@log_format
@log_level
@click.pass_obj
def serve_images(
    settings: Settings,
    listen: str,
    socket_mode: int,
    socket_group: str | None,
    metrics: str | None,
    cri_check: float,
    health: str | None,
    filter_images: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Serve the CRI image service and keep the store up to date.

    Answers from the store, even while the source is unavailable, and runs until SIGTERM or SIGINT. To try it:
    `crictl -i unix:///run/imagekeep/imagekeep.sock images`.
    """
    keep_small()
    start_logging(log_format, log_level)
    path, access = parse_address(listen), Access(socket_mode, socket_group)
    source = _open_source(settings) if settings.source else None
    store_factory = functools.partial(_store_of, settings) if source else None
    if store_factory is not None and not exists(settings.path):
        with store_factory():
            pass
    with settings.open_reader() as reader:
        config = ServerConfig(
            reader=reader,
            path=path,
            access=access,
            mountpoint=str(_image_directory(settings)),
            store_factory=store_factory,
            watcher=_watcher(settings, source, store_factory),
            cri_socket=cri_socket_of(source) if source else None,
            filter_images=filter_images,
        )
        if config.watcher is None:
            log.warning("not following a source; run `imagekeep sync` periodically")
        config = _with_metrics(config, metrics, cri_check) if metrics else config
        asyncio.run(serve_until_signal(_with_health(config, health) if health else config))


def _watcher(
    settings: Settings, source: Source | None, store_factory: StoreFactory | None
) -> WatcherThread | None:
    """Return a watcher of the source, or None if it does not support watching."""
    if source is None or store_factory is None or not is_watchable(source):
        return None
    return WatcherThread(store_factory, settings.source or "")


def _open_source(settings: Settings) -> Source:
    """Return the source without connecting to it."""
    if settings.source == f"archive:{STANDARD_INPUT_MARK}":
        raise click.UsageError("archive:- can be read only once (sync it first, then serve without a source)")
    return open_source(settings.source or "", base_name=settings.base_name, namespace=settings.namespace)


@contextlib.contextmanager
def _store_of(settings: Settings) -> Iterator[Store]:
    """Open the store with its source, for writing."""
    # Imported here, usually in a thread: it takes longer than everything that a read needs.
    from imagekeep.cli.open_store import open_store

    with open_store(settings) as store:
        yield store


def _with_metrics(config: ServerConfig, target: str, cri_check: float) -> ServerConfig:
    # Imported here because prometheus_client is an extra.
    from imagekeep.cri.drift import DriftCheck
    from imagekeep.cri.metrics import Metrics, serving_metrics

    address = parse_tcp_address(target, "metrics")
    drift = None
    if config.cri_socket is not None and config.store_factory is not None and cri_check:
        drift = DriftCheck(config.store_factory, cri_check)
    metrics = Metrics(config.reader, config.watcher_report, source_socket=config.cri_socket, drift=drift)

    @contextlib.asynccontextmanager
    async def background() -> AsyncIterator[None]:
        async with (
            serving_metrics(address, metrics.page()),
            drift.running() if drift else contextlib.nullcontext(),
        ):
            yield

    return dataclasses.replace(config, observe=metrics.observe, background=background)


def _with_health(config: ServerConfig, target: str) -> ServerConfig:
    # Imported here because most servers have none.
    from imagekeep.cri.health_port import serving_health

    address, others = parse_tcp_address(target, "health"), config.background

    @contextlib.asynccontextmanager
    async def background() -> AsyncIterator[None]:
        async with others(), serving_health(address, config.reader):
            yield

    return dataclasses.replace(config, background=background)


def _image_directory(settings: Settings) -> Path:
    """Return the directory to report as the image filesystem: a layout's own, else the store's."""
    scheme, _, place = (settings.source or "").partition(":")
    return Path(place).absolute() if scheme == "oci" else settings.path.absolute().parent
