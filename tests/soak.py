"""Run random operations on a real store and on a model of dicts, and say where they differ.

    scripts/soak --operations 1000000
    scripts/soak --operations 20000 --seed 7 --reopen-every 50 --processes 3

The file is in memory where there is such a place. It prints the command that repeats the run; on a mismatch
also the shortest sequence of operations that it finds to show it, and exits with 1.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

import click

from imagekeep.database.create import open_or_create
from tests.comparison import (
    MARKS,
    Mismatch,
    first_mismatch,
    fresh_stores,
    in_words,
    random_operations,
    shrink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.model import Operation

COMPARE_EVERY = 100


@click.command(context_settings={"show_default": True})
@click.option("--operations", type=click.IntRange(1), default=100_000, help="How many to run.")
@click.option("--seed", type=int, help="What they are drawn from; random if not given.")
@click.option("--reopen-every", type=click.IntRange(0), default=1000, help="Close and open; 0 is never.")
@click.option("--processes", type=click.IntRange(1), default=1, help="How many take turns on the file.")
def soak(operations: int, seed: int | None, reopen_every: int, processes: int) -> None:
    """Run random operations on a store and on a model; exit with 1 and the shrunk sequence if they differ."""
    seed = SystemRandom().randrange(2**32) if seed is None else seed
    repeat = f"--seed {seed} --reopen-every {reopen_every} --processes {processes}"
    click.echo(f"scripts/soak --operations {operations} {repeat}")

    def drawn() -> Iterator[Operation]:
        return random_operations(seed, operations, reopen_every=reopen_every, processes=processes)

    with tempfile.TemporaryDirectory() as directory:
        template = Path(directory) / "template.db"
        open_or_create(template)
        began = time.monotonic()
        with (
            fresh_stores(template, processes) as stores,
            click.progressbar(length=operations, file=sys.stderr, show_pos=True, update_min_steps=500) as bar,
        ):
            mismatch = first_mismatch(stores, counted(drawn(), bar.update), COMPARE_EVERY)
        if mismatch:
            report(list(islice(drawn(), mismatch.number + 1)), mismatch, template, processes)
            sys.exit(1)
    click.echo(f"{operations:,} operations, 0 mismatches, {time.monotonic() - began:.0f} s")


def counted(operations: Iterator[Operation], count: Callable[[int], None]) -> Iterator[Operation]:
    """Give the operations on, and count them; the marks between them do not count."""
    for operation in operations:
        yield operation
        if operation[0] not in MARKS:
            count(1)


def report(operations: Sequence[Operation], found: Mismatch, template: Path, processes: int) -> None:
    """Print a mismatch, and the shortest sequence that shows one."""

    def replay(some: Sequence[Operation]) -> Mismatch | None:
        with fresh_stores(template, processes) as stores:
            return first_mismatch(stores, some, compare_every=1)

    click.echo(f"mismatch after {found.number + 1:,} operations; shrinking the sequence that led there")
    shortest = shrink(operations, lambda some: replay(some) is not None)
    for operation in shortest:
        click.echo(f"  {in_words(operation)}")
    shown = replay(shortest) or found
    click.echo(f"the store says: {shown.store}\nthe model says: {shown.model}")


if __name__ == "__main__":
    soak(prog_name="scripts/soak")
