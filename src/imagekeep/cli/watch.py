"""`imagekeep watch`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.logs import log_format, log_level, start_logging
from imagekeep.cli.open_store import open_store
from imagekeep.cli.signals import ending_on_signals
from imagekeep.sources.protocol import require_watchable
from imagekeep.systemd import notify
from imagekeep.watch import Watcher

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings


@command("imagekeep --source containerd watch", "imagekeep --source containerd watch --log-format json")
@log_format
@log_level
@click.pass_obj
def watch_source(settings: Settings, log_format: str, log_level: str) -> None:
    """Follow the source, and update the store as it changes.

    Runs until SIGTERM or SIGINT. While the source is unavailable, the store answers with its last state, and
    `imagekeep db info` shows since when. A store has one watcher; a second one is refused (exit code 4).
    """
    start_logging(log_format, log_level)
    name = settings.source or ""
    probe = functools.partial(require_watchable, name=name)
    with (
        ending_on_signals() as ending,
        open_store(settings, example="containerd", before_creating=probe) as store,
    ):
        watcher = Watcher(store, source_name=name)
        ending.begin_with(watcher.stop)
        # Ready before the source has answered: the store answers with what it knew.
        watcher.run(on_start=lambda: notify("READY=1"))
