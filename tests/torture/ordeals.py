"""The table of ordeals: what each is called, how it is run, and how many rounds of it are worth the name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.torture.crowd import crowd
from tests.torture.faults import inflict
from tests.torture.flips import flip
from tests.torture.inputs import feed
from tests.torture.kills import Kills
from tests.torture.moves import move
from tests.torture.power import cut_power

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.toll import Toll


class Ordeal(NamedTuple):
    """An ordeal: `run(folder, seed, count, kinds)`, and the large count."""

    run: Callable[[Path, int, int, tuple[str, ...]], Toll]
    large: int


def kill(folder: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Toll:
    """Kill processes at random moments."""
    return Kills(folder, seed, kinds).run(count)


ORDEALS = {
    "kills": Ordeal(kill, 1000),
    "power": Ordeal(cut_power, 5000),
    "migrations": Ordeal(move, 20),
    "processes": Ordeal(crowd, 60),
    "flips": Ordeal(flip, 20_000),
    "faults": Ordeal(inflict, 5),
    "inputs": Ordeal(feed, 20_000),
}
