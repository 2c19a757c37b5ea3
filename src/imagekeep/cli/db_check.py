"""`imagekeep db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.formats import counted
from imagekeep.cli.output import write_line
from imagekeep.cli.store_file import reading
from imagekeep.database.check import find_others, find_problems
from imagekeep.database.queries import count
from imagekeep.database.revision import require_head
from imagekeep.errors import CorruptStoreError, printable

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings


@command("imagekeep db check")
@click.pass_obj
def check_store(settings: Settings) -> None:
    """Check every invariant, and name each object and row that breaks one.

    No source is needed: an image's id is the digest of the config stored with it. Exits 125 if an invariant is
    broken. Tables, indexes and views that imagekeep did not make are only noted.
    """
    with reading(settings.path) as (connection, revision):
        require_head(revision, settings.path)
        broken = 0
        for problem in find_problems(connection):
            write_line(str(problem))
            broken += 1
        if broken:
            store = printable(settings.path)
            raise CorruptStoreError(f"store {store}: {counted(broken, 'broken invariant')}")
        for other in find_others(connection):
            write_line(f"note: {printable(other)} is not imagekeep's")
        counts = count(connection.cursor())
    write_line(
        f"ok: {counted(counts.images, 'image')}, {counted(counts.references, 'reference')}, "
        f"{counted(counts.pinned_refs, 'pinned reference')}"
    )
