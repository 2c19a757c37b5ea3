"""`imagekeep fleet`: the centre and its nodes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from imagekeep.cli.centre_options import centre_parameters, credentials_option, to_option
from imagekeep.cli.command import command
from imagekeep.cli.formats import counted
from imagekeep.cli.output import write_line
from imagekeep.errors import InvalidArgumentError
from imagekeep.times import current_time

_SHARED = ("host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert")
"""Connection parameters of the owner that a node has too."""


@command("imagekeep fleet migrate --to postgresql:///fleet")
@to_option
def migrate(url: str | None) -> None:
    """Create the centre's schema, or migrate it to this release's.

    Run it as the owner of the database, with each new release and at least once a month: it also makes the
    partitions of the next months.
    """
    from imagekeep.fleet import administration
    from imagekeep.fleet.connection import connect

    with connect(centre_parameters(url)) as connection:
        done = administration.migrate(connection)
    if done.before == done.after:
        write_line(f"nothing to do: the schema is at revision {done.after}")
    else:
        write_line(f"migrated from revision {done.before or 'base'} to {done.after}")


@command("imagekeep fleet enroll web-1 -o web-1.credentials")
@click.argument("node")
@click.option(
    "-o", "--output", "file", metavar="FILE", required=True, help="Credential file to write, mode 0600."
)
@click.option("--for-nodes", metavar="URL", help="URL of the centre for nodes, if not that of --to.")
@click.option("--certificate", metavar="FILE", help="The node's client certificate, instead of a password.")
@click.option("--key", metavar="FILE", help="The node's key for --certificate.")
@to_option
def enroll(
    node: str, file: str, for_nodes: str | None, certificate: str | None, key: str | None, url: str | None
) -> None:
    """Let a node ship, and write the credentials for `imagekeep ship --credentials`.

    The node gets a new role and password; those it had before stop working, which also ends a conflict of two
    stores under one name. With --certificate and --key, paths on the node, the role has no password: issue the
    certificate for the role's name, which is printed.
    """
    from imagekeep.fleet import administration
    from imagekeep.fleet.connection import connect, parse_url

    if bool(certificate) != bool(key):
        raise InvalidArgumentError("--certificate and --key: give both or none")
    parameters = centre_parameters(url)
    for_node = parse_url(for_nodes) if for_nodes else parameters
    shared = {name: for_node[name] for name in _SHARED if name in for_node}
    with connect(parameters) as connection:
        own = {"sslcert": certificate, "sslkey": key} if certificate and key else {}
        role = administration.enroll_with_file(connection, node, Path(file), shared, own)
    write_line(f"enrolled {node} as role {role}")


@command("imagekeep fleet revoke web-1")
@click.argument("node")
@to_option
def revoke(node: str, url: str | None) -> None:
    """Stop a node from shipping, and forget what it has now.

    What it had stays in the past until it is pruned.
    """
    from imagekeep.fleet import administration
    from imagekeep.fleet.connection import connect

    with connect(centre_parameters(url)) as connection:
        administration.revoke(connection, node)
    write_line(f"revoked {node}")


@command("imagekeep fleet prune --keep 90d")
@click.option(
    "--keep", metavar="DURATION", default="90d", show_default=True, help="How much of the past to keep."
)
@to_option
def prune(keep: str, url: str | None) -> None:
    """Delete the old past, and names and images that nothing mentions.

    Also makes the partitions of the next months, and frees the nodes' quotas of names. Shipments wait for it.
    """
    from imagekeep.fleet import administration
    from imagekeep.fleet.connection import connect
    from imagekeep.questions.moments import parse_duration

    before = current_time() - timedelta(microseconds=abs(parse_duration(keep)) // 1000)
    with connect(centre_parameters(url)) as connection:
        done = administration.prune(connection, before)
    write_line(
        f"deleted {counted(done.ranges, 'past range')}, {counted(done.names, 'name')} and "
        f"{counted(done.images, 'image')}"
    )


@command("imagekeep fleet export parquet")
@click.argument("directory")
@to_option
@credentials_option
def export(directory: str, url: str | None, credentials: str | None) -> None:
    """Write the centre's views to a directory as Parquet files, all of one state."""
    from imagekeep.fleet.parquet import export as write_parquet
    from imagekeep.fleet.reading import PostgresFleet

    with PostgresFleet.open(centre_parameters(url, credentials), timeout=3600) as fleet:
        for path in write_parquet(fleet, Path(directory)):
            write_line(str(path))
