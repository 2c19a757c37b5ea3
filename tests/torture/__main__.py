"""Torture the store, and print what it cost as a table: the columns lost, broken, hung and crashed should be 0.

    scripts/torture                        every scenario, at its large count
    scripts/torture kills --count 1000
    scripts/torture kills --kind migrate --count 50 --seed 7

The seed repeats what is drawn; the moments at which the machine is hit are its own. Exits 1 where anything was
lost, broken, hung or crashed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import SystemRandom

import click

from imagekeep.database.driver import sqlite
from tests.torture.report import HEADING
from tests.torture.scenarios import SCENARIOS


@click.command(context_settings={"show_default": True})
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--count", type=click.IntRange(1), help="How many rounds; by default what the scenario is worth."
)
@click.option("--kind", "kinds", multiple=True, help="Only this kind of a scenario.")
@click.option("--seed", type=int, help="What everything is drawn from; random if not given.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where the files are; by default a new directory."
)
def torture(
    scenarios: tuple[str, ...],
    count: int | None,
    kinds: tuple[str, ...],
    seed: int | None,
    directory: Path | None,
) -> None:
    """Run scenarios; exit with 1 where one did harm."""
    seed = SystemRandom().randrange(2**30) if seed is None else seed
    click.echo(f"seed {seed}, SQLite {sqlite.sqlite_version}, Python {sys.version.split()[0]}\n{HEADING}")
    harmed = False
    for name in scenarios or SCENARIOS:
        with tempfile.TemporaryDirectory(dir=directory) as place:
            scenario = SCENARIOS[name]
            report = scenario.run(Path(place), seed, count or scenario.large, kinds)
        click.echo(report.line())
        for note in report.notes():
            click.echo(f"    {note}")
        harmed |= bool(report.harms)
    sys.exit(harmed)


if __name__ == "__main__":
    torture(prog_name="scripts/torture")
