"""Each scenario of scripts/torture at a small count; those that need root are skipped without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import require
from tests.torture import clients, copies, faults, flips, inputs, kills, migrations, recorded
from tests.torture.bombs import BOMBS
from tests.torture.report import Harm

CHECKOUT = Path(__file__).parents[2]


def torture(*arguments: str) -> str:
    """Run a scenario and return its output, a table without harms.

    It runs in its own process, because children are forked from it and pytest has threads.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, heading, line, *_ = done.stdout.splitlines()
    harms = dict(zip(heading.split(), line.split(), strict=True))
    assert [harms[harm] for harm in Harm] == ["0"] * 4
    return done.stdout


@pytest.mark.parametrize("kind", kills.KINDS)
def test_processes_killed_at_random_moments_lose_and_break_nothing(kind: str) -> None:
    torture("kills", "--kind", kind, "--count", "12")


@pytest.mark.parametrize("start", migrations.STARTS)
def test_a_killed_or_concurrent_migration_leaves_the_old_store_or_the_new(start: str) -> None:
    torture("migrations", "--kind", start, "--count", "2")


@pytest.mark.parametrize("kind", copies.KINDS)
def test_a_copy_is_named_only_when_complete_and_cannot_be_exchanged(kind: str) -> None:
    torture("copies", "--kind", kind, "--count", "10")


@pytest.mark.parametrize("scenario", recorded.SCENARIOS)
def test_a_power_cut_at_any_moment_loses_and_breaks_nothing(scenario: str) -> None:
    require("cc")
    torture("power", "--kind", scenario, "--count", "60")


def test_eight_writers_and_eight_readers_find_nothing_lost_stale_or_torn() -> None:
    torture("processes", "--count", "3")


def test_children_of_a_busy_process_lose_nothing() -> None:
    torture("forks", "--count", "40")


def test_a_store_that_is_continually_replaced_loses_nothing() -> None:
    torture("replacements", "--count", "3")


@pytest.mark.parametrize("kind", flips.KINDS)
def test_a_flipped_bit_is_an_error_or_detected_or_changes_no_verifiable_answer(kind: str) -> None:
    torture("flips", "--kind", kind, "--count", "300")


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_a_fault_is_a_named_error_and_does_no_harm(fault: str) -> None:
    if "1 skipped" in torture("faults", "--kind", fault, "--count", "1"):
        pytest.skip(f"{fault}: needs root")


@pytest.mark.parametrize("kind", [*(kind for kind in inputs.KINDS if kind != "bombs"), *BOMBS])
def test_hostile_input_is_answered_or_refused_soon_and_in_little_memory(kind: str) -> None:
    torture("inputs", "--kind", kind, "--count", "200")


@pytest.mark.parametrize("attack", clients.ATTACKS)
def test_an_attack_does_not_stop_the_server_from_answering_others(attack: str) -> None:
    torture("clients", "--kind", attack, "--count", "1")
