"""`imagekeep browse`."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.output import flush, print_message, write_line
from imagekeep.errors import ImagekeepError, from_os_error

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings

ADDRESS = "127.0.0.1"


@command("imagekeep browse", "imagekeep --store export.db browse --port 8765 --no-token")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port on 127.0.0.1; 0 for any free one.",
)
@click.option("--no-token", is_flag=True, help="Let every user of this host read the store.")
@click.pass_obj
def browse_store(settings: Settings, port: int, no_token: bool) -> None:
    """Show the store in a web browser.

    Serves read-only pages on 127.0.0.1 until interrupted: the views with facets, the named queries, and a front
    page with totals, the newest changes and the growth of the node. Prints the address, which has a token; from
    another host, forward the port: ssh -L 8765:127.0.0.1:8765 HOST. Pages omit environments and labels.
    """
    # Imported here because Datasette is an extra.
    from imagekeep.browse.server import serve

    with settings.open_reader():
        pass
    token = None if no_token else secrets.token_urlsafe(24)
    with _listen(port) as listening:
        address = f"http://{ADDRESS}:{listening.getsockname()[1]}/"
        write_line(address if token is None else f"{address}?token={token}")
        flush()
        print_message("serving until interrupted (Ctrl-C)")
        serve(settings.path, listening, token)


def _listen(port: int) -> socket.socket:
    """Return a socket that listens on the loopback address; raises ImagekeepError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise from_os_error(error, f"cannot listen on {ADDRESS}:{port}", ImagekeepError) from error
    return listening
