"""The package `imagekeep.fleet`: its public names, and what works without psycopg."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imagekeep import fleet
from imagekeep.cli import main

CHECKOUT = Path(__file__).parents[2]
WITHOUT_PSYCOPG = (
    "import sys\nsys.modules['psycopg'] = None\nfrom imagekeep.cli import main\nsys.exit(main(sys.argv[1:]))"
)


def run_without_psycopg(*arguments: str) -> tuple[int, str]:
    """Run a command in a process in which psycopg cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PSYCOPG, *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(fleet, name) is not None for name in fleet.__all__)
    with pytest.raises(AttributeError):
        fleet.nothing  # noqa: B018


def test_exports_can_be_asked_without_psycopg(tmp_path: Path) -> None:
    store = tmp_path / "web-1.db"
    shutil.copytree(CHECKOUT / "tests" / "data" / "layout", tmp_path / "hello")
    assert main(["--store", str(store), "--source", f"oci:{tmp_path / 'hello'}", "sync", "-q"]) == 0
    code, shown = run_without_psycopg("fleet", "status", "--totals", "-o", "json", "--from", str(store))
    assert code == 0, shown
    assert json.loads(shown)["totals"][0]["nodes"] == 1


def test_a_centre_needs_psycopg_and_the_error_says_how_to_get_it() -> None:
    code, shown = run_without_psycopg("fleet", "status", "--to", "postgresql:///fleet")
    assert (code, shown) == (125, "Error: psycopg is not installed (run: pip install 'imagekeep[fleet]')\n")


def test_the_benchmark_measures_a_small_fleet() -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "fleet-benchmark", "--nodes", "10", "--days", "1", "--images", "20",
         "--repeat", "1", "--seconds", "1", "--clients", "2", "--away", "4", "--buffers", "64MB"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["current rows"] == 600
    assert report["intake"]["rows a second in batches of 50"] > 0
    assert report["a week's outage"]["rows"] == 4 * 350
    assert report["a week's outage"]["milliseconds of a question during"] > 0
    assert all(value["elapsed"] > 0 for value in report["milliseconds"].values())
