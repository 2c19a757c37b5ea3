"""Writers killed repeatedly on one file, at random moments or at a given step."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagekeep import Store
from imagekeep.database import backup
from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.create import open_or_create, read_revision
from imagekeep.database.driver import sqlite
from imagekeep.database.revision import HEAD, REVISIONS
from tests.database.stores import STORES, thawed
from tests.torture import workers
from tests.torture.children import Child, ask
from tests.torture.disk_faults import rows_of
from tests.torture.orders import PLATFORM, Orders
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.torture.report import Seen

RENAME = "_rename_exclusively"
SYSTEM_CALLS = ("mkdir", "open", "fchmod", "fsync", "unlink", "rmdir", RENAME)
"""The system calls of a copy, before each of which `die_at` can kill it."""

REFERENCES = 6
ROUNDS_A_FILE = 25
"""Kills and recoveries of one file, before the next begins with a new one."""


class Kills:
    """Kills processes of the named kinds, in directories below `directory`."""

    def __init__(self, directory: Path, seed: int, kinds: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.draw = random.Random(seed)
        self.report = Report("kills", "kills")
        self.kinds = kinds or tuple(KINDS)
        self._files = 0

    def run(self, count: int) -> Report:
        """Kill `count` processes, taking the kinds in turn."""
        while self.report.rounds < count:
            for kind in self.kinds:
                place = self.directory / f"{kind}-{self._files}"
                self._files += 1
                place.mkdir()
                rounds = min(ROUNDS_A_FILE, max(1, (count - self.report.rounds) // len(self.kinds)))
                KINDS[kind](self, place, rounds)
                shutil.rmtree(place)
        return self.report

    def kill_at_random(self, children: list[Child], longest: float) -> list[Child]:
        """Kill each child at a random moment within `longest` seconds; return those that were killed."""
        for child in children:
            child.listen(60, until=workers.READY)
        for child in self.draw.sample(children, len(children)):
            child.listen(self.draw.uniform(0, longest / len(children)))
            child.kill()
        for child in children:
            child.wait()
            if child.code not in (0, -signal.SIGKILL):
                self.report.add(Harm.CRASHED, child.stderr or f"a worker exited with {child.code}")
        killed = [child for child in children if child.code == -signal.SIGKILL]
        self.report.rounds += len(killed)
        return killed


def next_delay(longest: float, killed: list[Child]) -> float:
    """Return a shorter delay for the next kill if the last child ended before its own, else a longer one."""
    return max(0.02, longest * (1.05 if killed else 0.9))


def die_at(
    report: Callable[[str], None],
    step: int,
    system_calls: tuple[str, ...],
    work: Callable[..., None],
    *arguments: Any,
) -> None:
    """Do the work in a child, which is killed before its SQL statement or system call number `step`."""
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return call

    def traced(*arguments: Any, **options: Any) -> sqlite.Connection:
        connection: sqlite.Connection = opens(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    opens = sqlite.connect
    setattr(sqlite, "connect", traced)  # noqa: B010 - only in this child
    for name in system_calls:
        module = backup if name == RENAME else os
        setattr(module, name, counted(getattr(module, name)))
    work(report, *arguments)


def kill_writers(kills: Kills, place: Path, rounds: int) -> None:
    """Kill three writers of one store: of single references, of batches, and of full syncs."""
    _kill_acknowledging(
        kills,
        place,
        rounds,
        [workers.update_without_end, workers.update_twins_without_end, workers.sync_without_end],
    )


def kill_watchers(kills: Kills, place: Path, rounds: int) -> None:
    """Kill a watcher, and a process that updates the same references."""
    _kill_acknowledging(kills, place, rounds, [workers.watch_without_end, workers.update_without_end])


def _kill_acknowledging(kills: Kills, place: Path, rounds: int, kinds: list[Callable[..., None]]) -> None:
    """Kill processes that acknowledge orders, and check that each order is there."""
    path, orders = place / "images.db", Orders(place / "orders", REFERENCES)
    acknowledged: dict[int, int] = {}
    done = 0
    while done < rounds:
        children = [Child(kind, path, orders, kills.draw.getrandbits(30)) for kind in kinds]
        done += len(kills.kill_at_random(children, 0.3))
        for number, order in _orders_in(children):
            acknowledged[number] = max(order, acknowledged.get(number, 0))
            kills.report.facts["changes acknowledged"] += 1
        kills.report.survey(survey, path, orders, acknowledged)
        # The survey updates the store, which counts as acknowledged too.
        acknowledged.update((number, orders.newest(number)) for number in range(orders.count))


def _orders_in(children: list[Child]) -> list[tuple[int, int]]:
    lines = [line.split() for child in children for line in child.lines if line != workers.READY]
    return [(int(number), int(order)) for number, order in lines]


def kill_syncs(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep sync` of a layout, whose tags move together."""
    path, layout = place / "images.db", place / "layout"
    acknowledged = first = done = 0
    while done < rounds:
        first += 1
        child = Child(workers.sync_layouts_without_end, path, layout, first)
        done += len(kills.kill_at_random([child], 0.3))
        said = [int(line.split()[1]) for line in child.lines if line.startswith("generation")]
        kills.report.facts["changes acknowledged"] += len(said)
        acknowledged, first = max([acknowledged, *said]), max([first, *(each + 1 for each in said)])
        kills.report.survey(survey_layout, path, acknowledged, first)


def survey_layout(path: Path, acknowledged: int, begun: int) -> list[Seen]:
    """Return the harms in a store whose tags must all be at one of the possible generations."""
    with Store.open(path, platform=PLATFORM) as store:
        found = {workers.generation_in(image.config_json): image.repo_tags for image in store.list()}
    seen = list(broken_invariants(path))
    if len(found) > 1 or any(len(tags) < len(workers.TAGS) for tags in found.values()):
        seen.append((Harm.BROKEN, f"half a sync: {found}"))
    if acknowledged and not any(acknowledged <= generation <= begun for generation in found):
        seen.append((Harm.LOST, f"generation {acknowledged} was acknowledged; the store has {found}"))
    return seen


def kill_backups(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep db backup` and a concurrent writer."""
    path, orders = place / "images.db", Orders(place / "orders", REFERENCES)
    done = 0
    while done < rounds:
        children = [Child(workers.update_twins_without_end, path, orders, kills.draw.getrandbits(30))]
        children[0].listen(60, until=workers.READY)
        children.append(Child(workers.back_up_without_end, path))
        done += len(kills.kill_at_random(children, 0.3))
        copies = [line for line in children[1].lines if line != workers.READY]
        kills.report.facts["copies acknowledged"] += len(copies)
        kills.report.survey(survey_copies, path, copies)


def survey_copies(path: Path, named: list[str]) -> list[Seen]:
    """Return the harms in the copies of a store, acknowledged or not."""
    there = set(path.parent.glob("*.backup"))
    seen = [(Harm.LOST, f"{name} was acknowledged") for name in named if Path(name) not in there]
    for copy in there:
        seen += broken_invariants(copy)
        if copy.stat().st_mode & 0o777 != 0o600:
            seen.append((Harm.BROKEN, f"{copy} has mode {copy.stat().st_mode:o}"))
        copy.unlink()
    # The next copy removes what killed ones left behind.
    whole = backup_path(path, HEAD)
    copy_store(path, whole)
    whole.unlink()
    expected = {path.name, f"{path.name}-lock", "orders"} | {f"{path.name}-wal", f"{path.name}-shm"}
    left = {entry.name for entry in path.parent.iterdir()} - expected
    return [*seen, *((Harm.BROKEN, f"{name} is left behind") for name in left)]


def kill_migrations(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep db migrate`, each time on an old store."""
    longest, done = 0.2, 0
    while done < rounds:
        path = place / f"images-{kills.report.rounds}-{done}.db"
        thawed("0001", path)
        child = Child(workers.migrate, path)
        killed = kills.kill_at_random([child], longest)

        longest = next_delay(longest, killed)
        done += len(killed)
        kills.report.survey(survey_migration, path, len(child.lines) > 1)


def survey_migration(path: Path, acknowledged: bool, revision: str = "0001") -> list[Seen]:
    """Return the harms of a killed migration, after running the command again."""
    found = read_revision(path)
    seen: list[Seen] = []
    if found not in (revision, HEAD) or (acknowledged and found != HEAD):
        seen.append((Harm.LOST, f"{path} is at revision {found}"))
    workers.migrate(lambda line: None, path)
    before, after = rows_of(STORES / f"{revision}.db", revision), rows_of(path, HEAD)
    seen += [
        (Harm.LOST, f"{path}: {table} has other rows than before")
        for table, rows in before.items()
        if after[table] != rows
    ]
    for copy in [path, *path.parent.glob(f"{path.name}.*.backup")]:
        if copy == path:
            seen += broken_invariants(copy)
        elif read_revision(copy) not in REVISIONS[:-1]:
            seen.append((Harm.BROKEN, f"{copy} is incomplete"))
    return seen


def kill_restores(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep db restore`, alternating between two copies."""
    path, copies = place / "images.db", {number: place / f"copy-{number}.db" for number in (1, 2)}
    ask(workers.prepare_copies, path, place / "layout", copies)
    longest, done, now = 0.2, 0, 2
    while done < rounds:
        child = Child(workers.restore, path, copies[3 - now])
        killed = kills.kill_at_random([child], longest)
        longest = next_delay(longest, killed)
        done += len(killed)
        now = 3 - now
        kills.report.survey(survey_restore, path, copies[now], now, len(child.lines) > 1)


def survey_restore(path: Path, copy: Path, generation: int, acknowledged: bool) -> list[Seen]:
    """Return the harms of a killed restore, before and after running the command again."""
    seen = survey_layout(path, *((generation, generation) if acknowledged else (1, 2)))
    workers.restore(lambda line: None, path, copy)
    for kept in path.parent.glob("*.backup"):
        seen += broken_invariants(kept)
        kept.unlink()
    seen += [(Harm.BROKEN, f"{left.name} is left behind") for left in path.parent.glob(".imagekeep-copy-*")]
    with Store.open(path, platform=PLATFORM) as store:
        found = {workers.generation_in(image.config_json) for image in store.list()}
    if found != {generation}:
        seen.append((Harm.LOST, f"generation {generation} was restored; the store has {found}"))
    return seen


def kill_creations(kills: Kills, place: Path, rounds: int) -> None:
    """Kill a process that creates a store."""
    longest, done = 0.2, 0
    while done < rounds:
        path = place / f"images-{kills.report.rounds}-{done}.db"
        child = Child(workers.create, path)
        killed = kills.kill_at_random([child], longest)
        longest = next_delay(longest, killed)
        done += len(killed)
        kills.report.survey(survey_creation, path)


def survey_creation(path: Path) -> list[Seen]:
    """Return the harms of a killed creation, after opening the store again."""
    open_or_create(path)
    return list(broken_invariants(path))


KINDS: dict[str, Callable[[Kills, Path, int], None]] = {
    "writers": kill_writers,
    "watch": kill_watchers,
    "sync": kill_syncs,
    "backup": kill_backups,
    "restore": kill_restores,
    "migrate": kill_migrations,
    "create": kill_creations,
}
