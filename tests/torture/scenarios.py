"""The table of scenarios: what each is called, how it is run, and how many rounds of it are worth the name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.torture.clients import besiege
from tests.torture.copies import copy
from tests.torture.crowd import crowd
from tests.torture.faults import inflict
from tests.torture.flips import flip
from tests.torture.forks import fork_often
from tests.torture.inputs import feed
from tests.torture.kills import Kills
from tests.torture.moves import move
from tests.torture.power import cut_power
from tests.torture.replacements import replace_often

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Report


class Scenario(NamedTuple):
    """An scenario: `run(directory, seed, count, kinds)`, and the large count."""

    run: Callable[[Path, int, int, tuple[str, ...]], Report]
    large: int


def kill(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Kill processes at random moments."""
    return Kills(directory, seed, kinds).run(count)


SCENARIOS = {
    "kills": Scenario(kill, 1000),
    "power": Scenario(cut_power, 5000),
    "migrations": Scenario(move, 20),
    "copies": Scenario(copy, 300),
    "processes": Scenario(crowd, 60),
    "forks": Scenario(fork_often, 1000),
    "replacements": Scenario(replace_often, 60),
    "flips": Scenario(flip, 20_000),
    "faults": Scenario(inflict, 5),
    "inputs": Scenario(feed, 20_000),
    "clients": Scenario(besiege, 20),
}
