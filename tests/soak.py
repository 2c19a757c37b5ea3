"""Run random operations on a real store and on a model of dicts, and compare them.

    scripts/soak --operations 1000000
    scripts/soak --operations 20000 --seed 7 --reopen-every 50 --processes 3

The store file is in memory if possible. Prints the command that repeats the run. On a mismatch it also prints the
shortest sequence of operations found to reproduce it, and exits 1.
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
@click.option("--operations", type=click.IntRange(1), default=100_000, help="Number of operations.")
@click.option("--seed", type=int, help="Random seed; chosen at random by default.")
@click.option(
    "--reopen-every", type=click.IntRange(0), default=1000, help="Operations until reopening; 0: never."
)
@click.option("--processes", type=click.IntRange(1), default=1, help="Processes that take turns.")
def soak(operations: int, seed: int | None, reopen_every: int, processes: int) -> None:
    """Compare random operations on a store and on a model.

    Exits 1 and prints a short sequence of operations if they differ.
    """
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
    """Yield the operations, and count them without the marks between them."""
    for operation in operations:
        yield operation
        if operation[0] not in MARKS:
            count(1)


def report(operations: Sequence[Operation], found: Mismatch, template: Path, processes: int) -> None:
    """Print a mismatch and the shortest sequence that reproduces one."""

    def replay(some: Sequence[Operation]) -> Mismatch | None:
        with fresh_stores(template, processes) as stores:
            return first_mismatch(stores, some, compare_every=1)

    click.echo(f"mismatch after {found.number + 1:,} operations; shrinking the sequence")
    shortest = shrink(operations, lambda some: replay(some) is not None)
    for operation in shortest:
        click.echo(f"  {in_words(operation)}")
    shown = replay(shortest) or found
    click.echo(f"store: {shown.store}\nmodel: {shown.model}")


if __name__ == "__main__":
    soak(prog_name="scripts/soak")
