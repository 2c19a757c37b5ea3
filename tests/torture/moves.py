"""Migrations that are killed at every single statement, and many that are run at once."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from imagekeep.database.revision import HEAD, REVISIONS
from tests.torture import workers
from tests.torture.children import Child, ChildError, ask
from tests.torture.kills import FROZEN, survey_creation, survey_migration
from tests.torture.report import Harm, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.survey import Seen

TOGETHER = 4


def move(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Kill migrations from each revision, and the making of a store, at each statement; run many at once."""
    report = Report("migrations", "moves")
    for start in kinds or STARTS:
        if start == "together":
            for number in range(count):
                _judge(report, together, directory / f"together-{number}")
            continue
        statement = 1
        while _kill_at(report, directory / f"{start}-{statement}", start, statement):
            statement += 1
        report.facts[f"statements from {start}"] = statement - 1
    return report


STARTS = ("nothing", *REVISIONS[:-1], "together")


def _kill_at(report: Report, place: Path, start: str, statement: int) -> bool:
    """Kill one migration at a statement, and look at what is left; tell whether it came so far."""
    place.mkdir()
    path = place / "images.db"
    work: Callable[..., None]
    if start == "nothing":
        work, survey = workers.create, partial(_survey_creation, path)
    else:
        _thaw(path, start)
        work, survey = workers.migrate, partial(_survey_migration, path, start)
    child = Child(_die_at, statement, work, path)
    if not child.wait():
        report.add(Harm.HUNG, f"from {start}, statement {statement}")
    if child.code == 0:
        return False
    report.rounds += 1
    if child.code != -signal.SIGKILL:
        report.add(Harm.CRASHED, child.complaint)
    _judge(report, survey)
    shutil.rmtree(place)
    return child.code == -signal.SIGKILL


def _die_at(report: Callable[[str], None], statement: int, work: Callable[..., None], path: Path) -> None:
    """Do the work, and be killed when the statement of this number is about to run."""
    ran = 0
    opens = sqlite.connect

    def count(text: str) -> None:
        nonlocal ran
        ran += 1
        if ran == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*arguments: Any, **options: Any) -> sqlite.Connection:
        connection: sqlite.Connection = opens(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    setattr(sqlite, "connect", traced)  # noqa: B010 - of this child alone
    work(report, path)


def _thaw(path: Path, revision: str) -> None:
    """Put a store of an older revision there, in WAL mode as imagekeep leaves it."""
    shutil.copyfile(FROZEN / f"{revision}.db", path)
    path.chmod(0o600)
    connect(path).close()


def _survey_creation(path: Path) -> list[Seen]:
    return survey_creation(path)


def _survey_migration(path: Path, revision: str) -> list[Seen]:
    return survey_migration(path, revision=revision, acknowledged=False)


def together(place: Path) -> list[Seen]:
    """Run some migrations of one store at once; all must succeed, and one of them moves it."""
    place.mkdir()
    path = place / "images.db"
    _thaw(path, REVISIONS[0])
    children = [Child(workers.migrate, path) for _ in range(TOGETHER)]
    seen: list[Seen] = []
    for child in children:
        if not child.wait():
            seen.append((Harm.HUNG, "a migration did not end"))
        elif child.code:
            seen.append((Harm.CRASHED, child.complaint))
    moved = [line for child in children for line in child.lines if line.startswith("migrated")]
    if len(moved) != 1 or len(list(place.glob("*.backup"))) != 1:
        seen.append((Harm.BROKEN, f"{len(moved)} processes say that they moved it: {moved}"))
    return seen + survey_migration(path, revision=HEAD, acknowledged=True)


def _judge(report: Report, survey: Callable[..., list[Seen]], *arguments: object) -> None:
    """Let a process of its own look."""
    try:
        for harm, what in ask(survey, *arguments):
            report.add(harm, what)
    except ChildError as error:
        report.add(Harm.HUNG if error.hung else Harm.CRASHED, str(error))
