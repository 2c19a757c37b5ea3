"""Run the fault tests on real stores, and print a table; its columns lost, broken, hung and crashed should be 0.

    scripts/torture                        every scenario, at its large count
    scripts/torture kills --count 1000
    scripts/torture kills --kind migrate --count 50 --seed 7

The seed repeats the random choices, but not the timing. Exits 1 if anything was lost, broken, hung or crashed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

import click

from imagekeep.database.driver import sqlite
from tests.torture.clients import attack_server
from tests.torture.copies import copy
from tests.torture.faults import inject
from tests.torture.flips import flip
from tests.torture.forks import fork_often
from tests.torture.inputs import feed
from tests.torture.kills import Kills
from tests.torture.migrations import migrate_killed
from tests.torture.power import cut_power
from tests.torture.processes import read_and_write
from tests.torture.replacements import replace_often
from tests.torture.report import HEADING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.torture.report import Report


class Scenario(NamedTuple):
    """A scenario: `run(directory, seed, count, kinds)`, and the count of a full run."""

    run: Callable[[Path, int, int, tuple[str, ...]], Report]
    large: int


def kill(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Kill processes at random moments."""
    return Kills(directory, seed, kinds).run(count)


SCENARIOS = {
    "kills": Scenario(kill, 1000),
    "power": Scenario(cut_power, 5000),
    "migrations": Scenario(migrate_killed, 20),
    "copies": Scenario(copy, 300),
    "processes": Scenario(read_and_write, 60),
    "forks": Scenario(fork_often, 1000),
    "replacements": Scenario(replace_often, 60),
    "flips": Scenario(flip, 20_000),
    "faults": Scenario(inject, 5),
    "inputs": Scenario(feed, 20_000),
    "clients": Scenario(attack_server, 20),
}


@click.command(context_settings={"show_default": True})
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--count", type=click.IntRange(1), help="Number of rounds; by default that of a full run.")
@click.option("--kind", "kinds", multiple=True, help="Kind within a scenario; repeatable.")
@click.option("--seed", type=int, help="Random seed; chosen at random by default.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Directory for the files; temporary by default."
)
def torture(
    scenarios: tuple[str, ...],
    count: int | None,
    kinds: tuple[str, ...],
    seed: int | None,
    directory: Path | None,
) -> None:
    """Run fault tests, and exit 1 if one did harm."""
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
