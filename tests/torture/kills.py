"""Writers that are killed at random moments, again and again, on the same file."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.create import open_or_create, read_revision
from imagekeep.database.driver import sqlite
from imagekeep.database.revision import HEAD, REVISIONS
from tests.torture import workers
from tests.torture.children import Child, ChildError, ask
from tests.torture.orders import PLATFORM, Orders
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.torture.survey import Seen

FROZEN = Path(__file__).parents[1] / "data" / "stores"
REFERENCES = 6
ROUNDS_A_FILE = 25
"""Kills that one file goes through, one recovery upon the other, before the next begins with a new one."""


class Kills:
    """Kills `count` processes of each kind that is named, in directories beneath `directory`."""

    def __init__(self, directory: Path, seed: int, kinds: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.draw = random.Random(seed)
        self.report = Report("kills", "kills")
        self.kinds = kinds or tuple(KINDS)
        self._files = 0

    def run(self, count: int) -> Report:
        """Kill so many processes, taking the kinds in turn."""
        while self.report.rounds < count:
            for kind in self.kinds:
                place = self.directory / f"{kind}-{self._files}"
                self._files += 1
                place.mkdir()
                rounds = min(ROUNDS_A_FILE, max(1, (count - self.report.rounds) // len(self.kinds)))
                KINDS[kind](self, place, rounds)
                shutil.rmtree(place)
        return self.report

    def strike(self, children: list[Child], longest: float) -> list[Child]:
        """Kill each child at a moment of its own, within so many seconds; return those that were killed."""
        for child in children:
            child.listen(60, until=workers.READY)
        for child in self.draw.sample(children, len(children)):
            child.listen(self.draw.uniform(0, longest / len(children)))
            child.kill()
        for child in children:
            child.wait()
            if child.code not in (0, -signal.SIGKILL):
                self.report.add(Harm.CRASHED, child.complaint or f"a victim ended with {child.code}")
        killed = [child for child in children if child.code == -signal.SIGKILL]
        self.report.rounds += len(killed)
        return killed

    def judge(self, question: Callable[..., list[Seen]], *arguments: object) -> None:
        """Let a process of its own look at what is left."""
        try:
            for harm, what in ask(question, *arguments):
                self.report.add(harm, what)
        except ChildError as error:
            self.report.add(Harm.HUNG if error.hung else Harm.CRASHED, str(error))


def kill_writers(kills: Kills, place: Path, rounds: int) -> None:
    """Kill three writers of one store: of single references, of batches, and of everything."""
    _kill_acknowledging(
        kills,
        place,
        rounds,
        [workers.update_without_end, workers.update_twins_without_end, workers.sync_without_end],
    )


def kill_watchers(kills: Kills, place: Path, rounds: int) -> None:
    """Kill a watcher, with an update of the same references beside it."""
    _kill_acknowledging(kills, place, rounds, [workers.watch_without_end, workers.update_without_end])


def _kill_acknowledging(kills: Kills, place: Path, rounds: int, kinds: list[Callable[..., None]]) -> None:
    """Kill processes that acknowledge orders, and look for each order."""
    path, orders = place / "images.db", Orders(place / "orders", REFERENCES)
    acknowledged: dict[int, int] = {}
    done = 0
    while done < rounds:
        children = [Child(kind, path, orders, kills.draw.getrandbits(30)) for kind in kinds]
        done += len(kills.strike(children, 0.3))
        for number, order in _orders_in(children):
            acknowledged[number] = max(order, acknowledged.get(number, 0))
            kills.report.facts["changes acknowledged"] += 1
        kills.judge(survey, path, orders, acknowledged)
        # The survey let the store catch up, and that is acknowledged as well.
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
        done += len(kills.strike([child], 0.3))
        said = [int(line.split()[1]) for line in child.lines if line.startswith("generation")]
        kills.report.facts["changes acknowledged"] += len(said)
        acknowledged, first = max([acknowledged, *said]), max([first, *(each + 1 for each in said)])
        kills.judge(survey_layout, path, acknowledged, first)


def survey_layout(path: Path, acknowledged: int, begun: int) -> list[Seen]:
    """Return the harms in a store whose tags must all be at one generation of those that may be there."""
    with Store.open(path, platform=PLATFORM) as store:
        found = {workers.generation_in(image.config_json): image.repo_tags for image in store.list()}
    seen = list(broken_invariants(path))
    if len(found) > 1 or any(len(tags) < len(workers.TAGS) for tags in found.values()):
        seen.append((Harm.BROKEN, f"half a sync: {found}"))
    if acknowledged and not any(acknowledged <= generation <= begun for generation in found):
        seen.append((Harm.LOST, f"generation {acknowledged} was acknowledged; the store has {found}"))
    return seen


def kill_backups(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep db backup`, with a writer beside it."""
    path, orders = place / "images.db", Orders(place / "orders", REFERENCES)
    done = 0
    while done < rounds:
        children = [
            Child(workers.update_twins_without_end, path, orders, kills.draw.getrandbits(30)),
        ]
        children[0].listen(60, until=workers.READY)
        children.append(Child(workers.back_up_without_end, path))
        done += len(kills.strike(children, 0.3))
        copies = [line for line in children[1].lines if line != workers.READY]
        kills.report.facts["copies acknowledged"] += len(copies)
        kills.judge(survey_copies, path, copies)


def survey_copies(path: Path, named: list[str]) -> list[Seen]:
    """Return the harms in the copies of a store, those that were named and others that have a whole name."""
    there = set(path.parent.glob("*.backup"))
    seen = [(Harm.LOST, f"{name} was acknowledged") for name in named if Path(name) not in there]
    for copy in there:
        seen += broken_invariants(copy)
        if copy.stat().st_mode & 0o777 != 0o600:
            seen.append((Harm.BROKEN, f"{copy} has mode {copy.stat().st_mode:o}"))
        copy.unlink()
    # The next copy takes away what killed ones left.
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
        shutil.copyfile(FROZEN / "0001.db", path)
        path.chmod(0o600)
        child = Child(workers.migrate, path)
        killed = kills.strike([child], longest)
        # A migration that ended before its kill was a shorter one than thought.
        longest = max(0.02, longest * (0.9 if not killed else 1.05))
        done += len(killed)
        kills.judge(survey_migration, path, len(child.lines) > 1)


def survey_migration(path: Path, acknowledged: bool, revision: str = "0001") -> list[Seen]:
    """Return the harms in a store that was being moved, after the same command has run again."""
    found = read_revision(path)
    seen: list[Seen] = []
    if found not in (revision, HEAD) or (acknowledged and found != HEAD):
        seen.append((Harm.LOST, f"{path} is at revision {found}"))
    workers.migrate(lambda line: None, path)
    for table in ("images", "configs", "references", "pinned_refs", "ref_cache"):
        if _rows(path, table) != _rows(FROZEN / "0001.db", table):
            seen.append((Harm.LOST, f"{path}: {table} has other rows than before"))
    for copy in [path, *path.parent.glob(f"{path.name}.*.backup")]:
        if copy == path:
            seen += broken_invariants(copy)
        elif read_revision(copy) not in REVISIONS[:-1]:
            seen.append((Harm.BROKEN, f"{copy} is not whole"))
    return seen


def _rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite.connect(path)) as connection:
        return connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()


def kill_restores(kills: Kills, place: Path, rounds: int) -> None:
    """Kill `imagekeep db restore`, which goes back and forth between two copies."""
    path, copies = place / "images.db", {number: place / f"copy-{number}.db" for number in (1, 2)}
    ask(workers.prepare_copies, path, place / "layout", copies)
    longest, done, now = 0.2, 0, 2
    while done < rounds:
        child = Child(workers.restore, path, copies[3 - now])
        killed = kills.strike([child], longest)
        longest = max(0.02, longest * (0.9 if not killed else 1.05))
        done += len(killed)
        now = 3 - now
        kills.judge(survey_restore, path, copies[now], now, len(child.lines) > 1)


def survey_restore(path: Path, copy: Path, generation: int, acknowledged: bool) -> list[Seen]:
    """Return the harms in a store that was becoming one of two copies, and again once the command has run again."""
    seen = survey_layout(path, *((generation, generation) if acknowledged else (1, 2)))
    workers.restore(lambda line: None, path, copy)
    for kept in path.parent.glob("*.backup"):
        seen += broken_invariants(kept)
        kept.unlink()
    seen += [(Harm.BROKEN, f"{left.name} is left behind") for left in path.parent.glob(".imagekeep-copy-*")]
    with Store.open(path, platform=PLATFORM) as store:
        found = {workers.generation_in(image.config_json) for image in store.list()}
    if found != {generation}:
        seen.append((Harm.LOST, f"generation {generation} was put back; the store has {found}"))
    return seen


def kill_creations(kills: Kills, place: Path, rounds: int) -> None:
    """Kill a process that makes a store."""
    longest, done = 0.2, 0
    while done < rounds:
        path = place / f"images-{kills.report.rounds}-{done}.db"
        child = Child(workers.create, path)
        killed = kills.strike([child], longest)
        longest = max(0.02, longest * (0.9 if not killed else 1.05))
        done += len(killed)
        kills.judge(survey_creation, path)


def survey_creation(path: Path) -> list[Seen]:
    """Return the harms in a store that was being made, after it was opened again."""
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
