"""Migrations killed at their statements, and several at once."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING

from imagekeep.database.revision import REVISIONS
from tests.database.stores import thawed
from tests.torture import workers
from tests.torture.children import Child
from tests.torture.kills import die_at, survey_creation, survey_migration
from tests.torture.report import Harm, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen

TOGETHER = 4

EVERY_STATEMENT = 20
"""The count at which a migration is killed at each of its statements; at a smaller one, at every n-th."""


def migrate_killed(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Kill migrations from each revision, and the creation of a store, at their statements; run several at once."""
    report = Report("migrations", "moves")
    step = max(1, EVERY_STATEMENT // count)
    for start in kinds or STARTS:
        if start == "together":
            for number in range(count):
                report.survey(together, directory / f"together-{number}")
            continue
        statement = 1 + seed % step
        while _kill_at(report, directory / f"{start}-{statement}", start, statement):
            statement += step
        report.facts[f"statements from {start}"] = statement - step
    return report


STARTS = ("nothing", *REVISIONS[:-1], "together")


def _kill_at(report: Report, place: Path, start: str, statement: int) -> bool:
    """Kill one migration at a statement, and check what is left; return whether it got that far."""
    place.mkdir()
    path = place / "images.db"
    work: Callable[..., None]
    if start == "nothing":
        work, survey = workers.create, partial(survey_creation, path)
    else:
        thawed(start, path)
        work, survey = workers.migrate, partial(survey_migration, path, acknowledged=False, revision=start)
    child = Child(die_at, statement, (), work, path)
    if not child.wait():
        report.add(Harm.HUNG, f"from {start}, statement {statement}")
    if child.code == 0:
        return False
    report.rounds += 1
    if child.code != -signal.SIGKILL:
        report.add(Harm.CRASHED, child.stderr)
    report.survey(survey)
    shutil.rmtree(place)
    return child.code == -signal.SIGKILL


def together(place: Path) -> list[Seen]:
    """Run migrations of one store at once; all must succeed, and exactly one migrates it."""
    place.mkdir()
    path = place / "images.db"
    thawed(REVISIONS[0], path)
    children = [Child(workers.migrate, path) for _ in range(TOGETHER)]
    seen: list[Seen] = []
    for child in children:
        if not child.wait():
            seen.append((Harm.HUNG, "a migration did not end"))
        elif child.code:
            seen.append((Harm.CRASHED, child.stderr))
    moved = [line for child in children for line in child.lines if line.startswith("migrated")]
    if len(moved) != 1 or len(list(place.glob("*.backup"))) != 1:
        seen.append((Harm.BROKEN, f"{len(moved)} processes report a migration: {moved}"))
    return seen + survey_migration(path, acknowledged=True)
