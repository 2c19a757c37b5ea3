"""Power cuts: records a program's calls, and opens its store as a cut may have left it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.backup import copy_store
from imagekeep.database.create import read_revision
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import HEAD
from imagekeep.errors import ImagekeepError
from tests.database.stores import STORES
from tests.torture.disk import Call, Disk, read_calls
from tests.torture.orders import PLATFORM, Orders
from tests.torture.recorded import ACKNOWLEDGED, REFERENCES, SCENARIOS, STORE
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants, lost_changes
from tests.volatile import volatile_directory

if TYPE_CHECKING:
    from tests.torture.report import Seen

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
SHARES = (0.0, 0.0, 0.1, 0.5, 0.9, 1.0)
"""Shares of the unsynced data that a cut keeps; nothing is the most telling."""

CHUNK = 100


def cut_power(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Cut the power at `count` moments of the named scenarios, or of all."""
    report = Report("power", "cuts")
    recorder = compile_recorder(directory)
    scenarios = kinds or tuple(SCENARIOS)
    for number, scenario in enumerate(scenarios):
        place = directory / scenario
        place.mkdir()
        calls, disk_before = record(recorder, scenario, place, seed)
        require_whole(place / "store", calls, disk_before)
        report.facts["calls recorded"] += len(calls)
        wanted = (count + number) // len(scenarios)
        draw = random.Random(seed)
        moments = sorted(draw.randrange(len(calls) + 1) for _ in range(wanted))
        for start in range(0, len(moments), CHUNK):
            chunk = moments[start : start + CHUNK]
            report.rounds += len(chunk)
            report.survey(cut_at, place, calls, disk_before, chunk, draw.getrandbits(30), about=scenario)
    return report


def compile_recorder(directory: Path) -> Path:
    """Compile the recorder; return the library."""
    library = directory / "recorder.so"
    compiler = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC"]
    subprocess.run([*compiler, "-o", str(library), str(HERE / "recorder.c")], check=True)
    return library


def record(recorder: Path, scenario: str, place: Path, seed: int) -> tuple[list[Call], dict[str, bytes]]:
    """Run a scenario; return its calls, and the files that were there before."""
    directory, log = place / "store", place / "log"
    directory.mkdir(mode=0o700)
    if scenario == "migrate":
        shutil.copyfile(STORES / "0001.db", directory / STORE)
    before = {entry.name: entry.read_bytes() for entry in directory.iterdir()}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.torture.recorded",
            scenario,
            str(directory),
            str(place / "orders"),
            str(seed),
        ],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "LD_PRELOAD": str(recorder),
            "TORTURE_DIRECTORY": str(directory),
            "TORTURE_LOG": str(log),
        },
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return list(read_calls(log)), before


def require_whole(directory: Path, calls: list[Call], before: dict[str, bytes]) -> None:
    """Raise RuntimeError unless the calls lead from the files before to the files now: none was missed.

    SQLite's index of the -wal file is ignored: it is written through a memory map, and rebuilt on opening.
    """
    disk = Disk(before)
    for call in calls:
        disk.take(call)
    there = {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.is_file()}
    recorded = disk.files()
    names = there.keys() | recorded.keys()
    names = {n for n in names if there.get(n) != recorded.get(n) and not n.endswith("-shm")}
    if names:
        raise RuntimeError(f"the recorded calls do not lead to the files there are: {sorted(names)}")


def cut_at(
    place: Path, calls: list[Call], before: dict[str, bytes], moments: list[int], seed: int
) -> list[Seen]:
    """Cut the power at each of the moments, and return the harms."""
    draw = random.Random(seed)
    disk = Disk(before)
    seen: list[Seen] = []
    done = 0
    for moment in moments:
        for call in calls[done:moment]:
            disk.take(call)
        done = moment
        acknowledged = disk.file(ACKNOWLEDGED).decode().splitlines()
        share = draw.choice(SHARES)
        with volatile_directory() as directory:
            disk.cut(draw, share, directory)
            try:
                found = list(survey_cut(directory, Orders(place / "orders", REFERENCES), acknowledged))
            except ImagekeepError as error:
                found = [(Harm.BROKEN, str(error).replace(str(directory), "…"))]
        seen += [(harm, f"{what} (call {moment} of {len(calls)}, {share:.0%} kept)") for harm, what in found]
    return seen


def survey_cut(directory: Path, orders: Orders, acknowledged: list[str]) -> list[Seen]:
    """Return the harms in a directory after a cut."""
    path = directory / STORE
    seen: list[Seen] = []
    if path.exists() and read_revision(path) not in (None, HEAD):
        migrate(path)
    with Store.open(path, platform=PLATFORM) as store:
        said = [line.split() for line in acknowledged]
        changes = changes_in(said)
        seen += broken_invariants(path)
        seen += lost_changes(store, orders, changes)
    for copy in (words[1] for words in said if words[0] == "copied"):
        if not (directory / copy).exists():
            seen.append((Harm.LOST, f"{copy} was acknowledged"))
    return seen + copies_broken(directory)


def changes_in(said: list[list[str]]) -> dict[int, int]:
    """Return the order that each reference must have; after a restore, at least the copy's."""
    changes: dict[int, int] = {}
    copied = changes
    for verb, *words in said:
        if verb.isdigit():
            changes[int(verb)] = max(int(words[0]), changes.get(int(verb), 0))
        elif verb == "copied":
            copied = dict(changes)
        elif verb == "restoring":
            changes = dict(copied)
    return changes


def copies_broken(directory: Path) -> list[Seen]:
    """Return the harms in named copies."""
    seen: list[Seen] = []
    for copy in [*directory.glob("copy-*.db"), *directory.glob("*.backup")]:
        with contextlib.suppress(FileNotFoundError):
            if read_revision(copy) == HEAD:
                seen += broken_invariants(copy)
    # The next copy removes what killed ones left behind.
    copy_store(directory / STORE, directory / "whole.db")
    return seen + [
        (Harm.BROKEN, f"{left.name} is left behind") for left in directory.glob(".imagekeep-copy-*")
    ]
