"""Files that are no stores, disks and systems that give no more: a named error with what to do, and no harm.

Each fault is real: a mount that is full or read-only, a limit of the kernel, a user without permission.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.backup import copy_store
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from tests.permissions import NOBODY
from tests.torture.bench import FAILED, Bench, Skipped, fill, is_named, mounted, need_root, remount
from tests.torture.children import ChildError, ask
from tests.torture.commands import ASKING, READING, run
from tests.torture.dying_disks import dying_disk
from tests.torture.forgeries import (
    directory_for_all,
    endless_view,
    files_made_beforehand,
    forged_journal,
    forged_log,
    no_files_beside_it,
    second_link,
)
from tests.torture.moves_refused import forbidden_row, no_space_for_the_backup, no_space_for_the_move
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.survey import Seen


# --- what is no store


def directory_in_its_place(bench: Bench) -> None:
    bench.path.mkdir()
    bench.refused(words="not a file")


def symbolic_link(bench: Bench) -> None:
    (bench.directory / "elsewhere").mkdir()
    bench.path.symlink_to(bench.store(bench.directory / "elsewhere" / "images.db"))
    bench.refused(words="a symbolic link")


def dangling_link(bench: Bench) -> None:
    bench.path.symlink_to(bench.directory / "nowhere.db")
    bench.refused(words="a symbolic link")


def fifo(bench: Bench) -> None:
    os.mkfifo(bench.path)
    bench.refused(words="not a file")


def unix_socket(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(bench.path))
        bench.refused(words="not a file")


def text_file(bench: Bench) -> None:
    bench.path.write_text("notes\n" * 1000)
    bench.refused(words="not a SQLite database")


def one_byte(bench: Bench) -> None:
    bench.path.write_bytes(b"\0")
    bench.refused(words="not a SQLite database")


def zeros(bench: Bench) -> None:
    bench.path.write_bytes(bytes(65_536))
    bench.refused(words="not a SQLite database")


def other_program(bench: Bench) -> None:
    """A database of another program, in either journal mode, with and without a mark of its own."""
    for mode in ("DELETE", "WAL"):
        for mark in (0, 252006674):
            bench.path.unlink(missing_ok=True)
            connection = sqlite.connect(bench.path)
            connection.executescript(
                f"PRAGMA journal_mode = {mode}; PRAGMA application_id = {mark}; CREATE TABLE images (id)"
            )
            connection.close()
            bench.refused(words="another program's database")


def truncated(bench: Bench) -> None:
    """A store that is cut short at any length; nothing may be made of it but an error."""
    whole = bench.store().read_bytes()
    page = 4096
    sizes = [1, 50, 99, 100, 511, page - 1, page, page + 1, len(whole) - page, len(whole) - 1]
    for size in [*sizes, *(bench.draw.randrange(1, len(whole)) for _ in range(3))]:
        bench.path.write_bytes(whole[:size])
        bench.refused(("db", "check"), ("--source", bench.layout(), "sync"), ("db", "migrate"))


def newer(bench: Bench) -> None:
    with sqlite.connect(bench.store()) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    bench.refused(
        *(command for command in READING if command != ("db", "info")),
        *bench.writing()[:2],
        words="newer than",
    )
    bench.works(("db", "info"), *bench.writing()[2:])


def older(bench: Bench) -> None:
    """An old store is refused with the command that moves it, and works after that command."""
    bench.store(revision="0001")
    bench.refused(
        *(command for command in READING if command != ("db", "info")), bench.writing()[0], words="db migrate"
    )
    bench.works(("db", "info"), ASKING, *bench.writing()[2:], ("db", "migrate"), *READING)


def half_made(bench: Bench) -> None:
    """A file that was made and has nothing in it, as a process leaves that was killed first of all."""
    bench.path.touch(mode=0o600)
    bench.refused(*(c for c in READING if c != ("db", "info")), words="db migrate")
    bench.works(("--source", bench.layout(), "sync"), ("db", "check"))


# --- a disk, or a system, that gives no more


def full_disk(bench: Bench) -> None:
    """A disk that is full: nothing changes, reads go on, and all works once there is space."""
    with mounted(bench, "2m"):
        bench.store()
        with Store.open(bench.path, platform=PLATFORM) as holder:
            holder.list()  # a daemon that is running: its index of the -wal file is there
            filler = fill(bench, 0)
            bench.refused(("--source", bench.layout(), "sync"), words="is full")
            bench.refused(
                ("db", "backup"), ("db", "export", str(bench.directory / "export.db")), words="full"
            )
            bench.works()
            filler.unlink()
        bench.works(("--source", bench.layout(), "sync"), ("db", "backup"))
        bench.whole()


def nearly_full_disk(bench: Bench) -> None:
    """A disk with a few bytes left, so that writing fails in the middle, at another place each time."""
    with mounted(bench, "2m"):
        for leave in (*range(0, 160_000, 16_384), bench.draw.randrange(160_000)):
            bench.store()
            filler = fill(bench, leave)
            outcome = run(bench.path, "--source", bench.layout(), "sync")
            if outcome.crashed or outcome.code not in (0, FAILED):
                bench.seen.append((Harm.CRASHED, str(outcome)))
            filler.unlink()
            bench.whole(1 if outcome.code == 0 else 4)
            for entry in bench.directory.iterdir():
                entry.unlink()


def new_store_on_a_full_disk(bench: Bench) -> None:
    with mounted(bench, "1m"):
        for leave in (0, 4096, 20_480, 61_440):
            filler = fill(bench, leave)
            outcome = run(bench.path, "--source", bench.layout(), "sync")
            if outcome.crashed or outcome.code != FAILED or not is_named(outcome, "full"):
                bench.seen.append((Harm.BROKEN, f"{leave} left: {outcome}"))
            filler.unlink()
            bench.works(("--source", bench.layout(), "sync"), ("db", "check"))
            for entry in bench.directory.iterdir():
                entry.unlink()


def read_only_disk(bench: Bench) -> None:
    """A disk that was mounted read-only: a store is read where its companions are, and a copy anyway."""
    with mounted(bench, "2m"):
        bench.store()
        copy_store(bench.path, bench.directory / "export.db")
        writing, *copying = bench.writing()
        run(bench.path, "images")  # a reader leaves the companions, a writer takes them away
        remount(bench, "ro")
        bench.works(*READING, *copying[1:])
        bench.refused(writing)
        remount(bench, "rw")
        connect(bench.path).close()
        remount(bench, "ro")
        bench.refused(*READING, writing, words="read")
        bench.path = bench.directory / "export.db"
        bench.works()
        bench.refused(("--source", bench.layout(), "sync"))
        remount(bench, "rw")
        bench.works(("--source", bench.layout(), "sync"))


def file_size_limit(bench: Bench) -> None:
    """A limit on the size of files, which fails writes as a full disk does, for who may not mount one."""
    bench.store()

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    bench.refused(("--source", bench.layout(), "sync"), before=limited, words="nothing was changed")
    bench.refused(("db", "backup"), ("db", "export", str(bench.directory / "e.db")), before=limited)
    bench.works(before=limited)
    bench.works(("--source", bench.layout(), "sync"))
    bench.whole(1)


def no_descriptors(bench: Bench) -> None:
    """A process that may open only a few files more, one more each time."""
    bench.store()

    def limited(spare: int) -> Callable[[], None]:
        def limit() -> None:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
            while (taken := os.open(os.devnull, os.O_RDONLY)) < highest:
                pass
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 1 + spare, taken + 1 + spare))

        return limit

    for number in (None, 0, 2):
        for spare in range(14):
            command = ("images",) if number is None else bench.writing()[number]
            outcome = run(bench.path, *command, before=limited(spare))
            if (
                outcome.crashed
                or outcome.code not in (0, FAILED)
                or (outcome.code and not is_named(outcome, ""))
            ):
                bench.seen.append((Harm.CRASHED, f"{spare} to spare: {outcome}"))
    bench.whole()


# --- no permission


def _as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def nobodys_directory(bench: Bench) -> None:
    need_root()
    bench.store()
    bench.directory.chmod(0o700)
    bench.refused(*READING, bench.writing()[0], before=_as_nobody)


def nobodys_file(bench: Bench) -> None:
    need_root()
    bench.store()
    bench.directory.chmod(0o777)
    bench.refused(*READING, bench.writing()[0], before=_as_nobody)


def readable_file_in_anothers_directory(bench: Bench) -> None:
    """A store that may be read but has no companions, which this user may not make; its copy is read."""
    need_root()
    bench.store().chmod(0o644)
    bench.directory.chmod(0o755)
    copy_store(bench.path, bench.directory / "export.db")
    (bench.directory / "export.db").chmod(0o644)
    connect(bench.path).close()
    bench.refused(*READING, bench.writing()[0], before=_as_nobody)
    bench.path = bench.directory / "export.db"
    bench.works(before=_as_nobody)


FAULTS: dict[str, Callable[[Bench], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(
            directory_in_its_place,
            symbolic_link,
            dangling_link,
            fifo,
            unix_socket,
            text_file,
            one_byte,
            zeros,
        ),
        *(other_program, truncated, newer, older, half_made),
        *(full_disk, nearly_full_disk, new_store_on_a_full_disk, read_only_disk),
        *(no_space_for_the_backup, no_space_for_the_move, forbidden_row),
        *(dying_disk, file_size_limit, no_descriptors),
        *(nobodys_directory, nobodys_file, readable_file_in_anothers_directory),
        *(forged_log, forged_journal, files_made_beforehand, no_files_beside_it),
        *(directory_for_all, second_link, endless_view),
    )
}


def inflict(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Inflict each fault that is named, or every one, so many times."""
    report = Report("faults", "faults")
    directory.chmod(0o755)
    for number in range(count):
        for name in kinds or FAULTS:
            place = directory / f"{name}-{number}"
            (place / "disk").mkdir(parents=True)
            try:
                skipped, seen = ask(_inflict, name, place, seed + number)
            except ChildError as error:
                skipped, seen = False, [(Harm.HUNG if error.hung else Harm.CRASHED, str(error))]
            report.rounds += not skipped
            report.facts["skipped"] += skipped
            for harm, what in seen:
                report.add(harm, f"{name}: {what}")
    return report


def _inflict(name: str, place: Path, seed: int) -> tuple[bool, list[Seen]]:
    """Inflict one fault; tell whether it was skipped, and what was seen."""
    bench = Bench(place / "disk", seed)
    try:
        FAULTS[name](bench)
    except Skipped:
        return True, []
    return False, bench.seen
