"""`imagekeep ship`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import click

from imagekeep.cli.centre_options import centre_parameters, credentials_option, to_option
from imagekeep.cli.command import command
from imagekeep.cli.formats import counted
from imagekeep.cli.logs import log_format, log_level, start_logging
from imagekeep.cli.output import write_line
from imagekeep.cli.settings import require_store
from imagekeep.cli.watch import stopping_on_signals
from imagekeep.systemd import notify

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings
    from imagekeep.fleet.shipment import Shipment


@command(
    "imagekeep ship --to postgresql://centre.example/fleet --follow",
    "imagekeep ship --credentials /etc/imagekeep/fleet.credentials",
)
@to_option
@credentials_option
@click.option("--follow", is_flag=True, help="Keep shipping, soon after each change.")
@click.option(
    "--interval",
    type=click.FloatRange(1, 86_400),
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="Seconds between shipments with --follow.",
)
@log_format
@log_level
@click.pass_obj
def ship_history(
    settings: Settings,
    url: str | None,
    credentials: str | None,
    follow: bool,
    interval: float,
    log_format: str,
    log_level: str,
) -> None:
    """Ship the store's changes to the fleet's centre.

    Sends what changed since the last shipment, or the whole state if the store is new, was restored or was
    replaced. Nothing is lost while the centre is away: the store's history is the buffer. `imagekeep db info` shows
    what was shipped, and when.

    With --follow it ships after each change, a minute at the earliest, and every five minutes without one; while it
    fails, less and less often, down to once an hour.
    """
    # Imported here because psycopg is an extra.
    from imagekeep.fleet.follow import Pace, follow_store, ship_store

    parameters = centre_parameters(url, credentials)
    require_store(settings.path)
    if not follow:
        write_line(_describe(ship_store(settings.path, parameters, own_version())))
        return
    start_logging(log_format, log_level)
    stop = threading.Event()
    with stopping_on_signals() as shutdown:
        shutdown.on_signal(stop.set)
        notify("READY=1")
        follow_store(settings.path, parameters, own_version(), stop, Pace(interval, interval / 5))


def own_version() -> str:
    """Return imagekeep's version, for the centre to show."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("imagekeep")
    except PackageNotFoundError:
        return "unknown"


def _describe(done: Shipment) -> str:
    sent = [counted(done.rows, "change")] if done.rows else []
    sent += [f"the whole state ({reason})" for reason in done.snapshots]
    return f"shipped {' and '.join(sent) or 'nothing new'}: at {done.sequence} of epoch {done.epoch}"
