"""Copies killed at every step, and copies into a directory where another user exchanges files."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from imagekeep.database import backup
from imagekeep.database.backup import copy_store
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from imagekeep.database.restore import restore_store
from imagekeep.database.revision import HEAD
from imagekeep.errors import ImagekeepError
from tests.database.stores import thawed
from tests.permissions import NOBODY
from tests.torture.children import Child
from tests.torture.kills import RENAME, SYSTEM_CALLS, die_at
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen

LEFT_BEHIND = ".imagekeep-copy-*"
SWAPS_IN = {
    "swapped": 0o777,  # anybody may exchange files
    "swapped-sticky": 0o1777,  # anybody may add files, as in /tmp
    "swapped-theirs": 0o755,  # the directory belongs to the other user
}


def copy(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Kill copies and restores at each step; make `count` copies beside an attacker."""
    report = Report("copies", "copies")
    directory.chmod(0o755)
    store = directory / "images.db"
    thawed(HEAD, store)
    for kind in kinds or KINDS:
        place = directory / kind
        place.mkdir()
        if kind in SWAPS_IN:
            _swap(report, kind, store, place, count)
        else:
            _kill(report, kind, store, place)
    return report


# --- killed


def _kill(report: Report, kind: str, store: Path, place: Path) -> None:
    """Kill a copy before each of its steps, until one completes."""
    step, killed = 0, True
    while killed:
        step += 1
        target = place / f"{step}" / "copy.db"
        target.parent.mkdir()
        child = Child(die_at, step, SYSTEM_CALLS, _run, COPIES[kind], store, target)
        if not child.wait():
            report.add(Harm.HUNG, f"{kind}, step {step}")
        killed = child.code == -signal.SIGKILL
        if child.code and not killed:
            report.add(Harm.CRASHED, child.stderr)
        report.rounds += 1
        report.survey(survey_killed, kind, store, target, about=f"{kind}, step {step}")
    report.facts[f"steps of {kind}"] = step - 1


def survey_killed(kind: str, store: Path, target: Path) -> list[Seen]:
    """Return the harms of a killed copy, and of the next one into the same directory."""
    seen: list[Seen] = []
    if target.exists():
        seen += _differences(store, target)
        target.unlink()
    seen += [
        (Harm.BROKEN, f"{entry} has mode {entry.stat().st_mode:o}")
        for entry in target.parent.rglob("*")
        if entry.stat().st_mode & 0o077
    ]
    COPIES[kind](store, target)
    seen += _differences(store, target)
    return [
        *seen,
        *((Harm.BROKEN, f"{left.name} is left behind") for left in target.parent.glob(LEFT_BEHIND)),
    ]


# --- swapped


def _swap(report: Report, kind: str, store: Path, place: Path, count: int) -> None:
    """Make copies while another user renames, replaces and reads everything possible."""
    if os.geteuid() != 0:
        report.facts["skipped: needs root"] += 1
        return
    public, kept = place / "public", place / "kept"
    kept.mkdir(mode=0o700)
    public.mkdir()
    public.chmod(SWAPS_IN[kind])
    if kind == "swapped-theirs":
        os.chown(public, NOBODY, NOBODY)
    attacker = Child(attack, public, _secret_of(store))
    attacker.listen(60, until="ready")
    copier = Child(_copy_often, store, public, kept, count)
    if not copier.wait():
        report.add(Harm.HUNG, f"{kind}: a copy did not end")
    elif copier.code:
        report.add(Harm.CRASHED, f"{kind}: {copier.stderr}")
    attacker.listen(0)
    attacker.kill()
    attacker.wait()
    for line in attacker.lines:
        if line.startswith("read "):
            report.add(Harm.BROKEN, f"{kind}: another user {line}")
    report.rounds += count
    report.facts["copies named"] += copier.lines.count("copied")
    report.facts["copies refused"] += len(copier.lines) - copier.lines.count("copied")
    if kind != "swapped-theirs" and "copied" not in copier.lines:
        report.add(Harm.LOST, f"{kind}: no copy was made at all: {copier.lines[:1]}")
    for each in sorted(kept.iterdir()):
        report.survey(_differences, store, each, about=kind)


def _copy_often(report: Callable[[str], None], store: Path, public: Path, kept: Path, count: int) -> None:
    """Make copies; keep the content that each had when it got its name."""
    rename = getattr(backup, RENAME)

    def keep_and_rename(directory: int, parent: int, name: str) -> None:
        descriptor = os.open("copy.db", os.O_RDONLY, dir_fd=directory)
        with os.fdopen(descriptor, "rb") as file:
            (kept / name).write_bytes(file.read())
        (kept / name).chmod(os.stat("copy.db", dir_fd=directory).st_mode & 0o777)
        rename(directory, parent, name)

    setattr(backup, RENAME, keep_and_rename)
    for number in range(count):
        try:
            copy_store(store, public / f"export-{number}.db")
        except ImagekeepError as error:
            report(f"refused: {error}")
        else:
            report("copied")


def attack(report: Callable[[str], None], directory: Path, secret: bytes) -> None:
    """As another user, exchange and read the files that appear in a directory, until killed."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    report("ready")
    number = 0
    while True:
        for entry in os.scandir(directory):
            if entry.name.startswith("stolen-"):
                continue
            with contextlib.suppress(OSError):
                if _holds(entry.path, secret):
                    report(f"read the store's content in {entry.name}")
                    return
            number += 1
            with contextlib.suppress(OSError):
                os.rename(entry.path, directory / f"stolen-{number}")  # noqa: PTH104 - as fast as can be
                _forge(directory, entry.name, number)


def _forge(directory: Path, name: str, number: int) -> None:
    """Put something else in the place of what was there: a directory with files, a link, or a file."""
    forged = directory / name
    if number % 3 == 0:
        forged.symlink_to(directory / f"stolen-{number}")
        return
    if number % 3 == 1:
        forged.mkdir(mode=0o777)
        forged.chmod(0o777)
        forged = forged / "copy.db"
    for companion in ("", "-journal", "-wal"):
        target = forged.with_name(f"{forged.name}{companion}")
        target.write_bytes(b"forged")
        target.chmod(0o666)


def _holds(path: str, secret: bytes) -> bool:
    """Return whether a file, or one in a directory, can be read and holds the secret."""
    paths = [inner.path for inner in os.scandir(path)] if os.path.isdir(path) else [path]  # noqa: PTH112
    for each in paths:
        with contextlib.suppress(OSError), open(each, "rb") as file:  # noqa: PTH123
            if secret in file.read():
                return True
    return False


def _secret_of(store: Path) -> bytes:
    """Return a config of the store, which nobody else may see."""
    with contextlib.closing(sqlite.connect(store)) as connection:
        config = "SELECT document FROM images JOIN documents ON blob_key = config_key"
        document: bytes = connection.execute(config).fetchone()[0]
    return document


# --- both


def _differences(store: Path, made: Path) -> list[Seen]:
    """Return the harms in a named copy: its rows, mode and owner."""
    seen = list(broken_invariants(made))
    status = made.stat()
    if status.st_mode & 0o777 != 0o600 or status.st_uid != os.geteuid():
        seen.append((Harm.BROKEN, f"{made.name} has mode {status.st_mode:o} and owner {status.st_uid}"))
    if _rows(made) != _rows(store):
        seen.append((Harm.LOST, f"{made.name} has other rows than the store"))
    return seen


def _rows(path: Path) -> list[Any]:
    with contextlib.closing(connect(path, read_only=True)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in (
                *("platforms", "images", '"references"', "pinned_refs", "ref_cache", "reference_history"),
                *("blobs", "documents", "target_manifests", "manifests", "manifest_layers", "chains"),
            )
        ]


def _run(report: Callable[[str], None], copy: Callable[[Path, Path], Any], store: Path, target: Path) -> None:
    copy(store, target)


def _restore_to_nothing(store: Path, target: Path) -> None:
    restore_store(target, store)


COPIES: dict[str, Callable[[Path, Path], Any]] = {"killed": copy_store, "killed-restore": _restore_to_nothing}
KINDS = (*COPIES, *SWAPS_IN)
