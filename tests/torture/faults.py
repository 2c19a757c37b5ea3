"""Files that are not stores, and systems that fail: each is a named error that says what to do, and does no harm.

Each fault is real: a full or read-only mount, a limit of the kernel, a user without permission.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import TYPE_CHECKING

from imagekeep.database.backup import copy_store
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from tests.permissions import NOBODY
from tests.torture.children import ASKING, READING, ChildError, ask, run
from tests.torture.disk_faults import (
    dying_disk,
    forbidden_row,
    full_disk,
    nearly_full_disk,
    new_store_on_a_full_disk,
    no_space_for_the_backup,
    no_space_for_the_move,
    read_only_disk,
)
from tests.torture.forgeries import (
    directory_for_all,
    endless_view,
    files_made_beforehand,
    forged_journal,
    forged_log,
    no_files_beside_it,
    second_link,
)
from tests.torture.report import Harm, Report
from tests.torture.sandbox import FAILED, Sandbox, Skipped, is_imagekeep_error, need_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen


# --- not a store


def directory_in_its_place(sandbox: Sandbox) -> None:
    sandbox.path.mkdir()
    sandbox.expect_refused(words="not a file")


def symbolic_link(sandbox: Sandbox) -> None:
    (sandbox.directory / "elsewhere").mkdir()
    sandbox.path.symlink_to(sandbox.store(sandbox.directory / "elsewhere" / "images.db"))
    sandbox.expect_refused(words="a symbolic link")


def dangling_link(sandbox: Sandbox) -> None:
    sandbox.path.symlink_to(sandbox.directory / "nowhere.db")
    sandbox.expect_refused(words="a symbolic link")


def fifo(sandbox: Sandbox) -> None:
    os.mkfifo(sandbox.path)
    sandbox.expect_refused(words="not a file")


def unix_socket(sandbox: Sandbox) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(sandbox.path))
        sandbox.expect_refused(words="not a file")


def text_file(sandbox: Sandbox) -> None:
    sandbox.path.write_text("notes\n" * 1000)
    sandbox.expect_refused(words="not a SQLite database")


def one_byte(sandbox: Sandbox) -> None:
    sandbox.path.write_bytes(b"\0")
    sandbox.expect_refused(words="not a SQLite database")


def zeros(sandbox: Sandbox) -> None:
    sandbox.path.write_bytes(bytes(65_536))
    sandbox.expect_refused(words="not a SQLite database")


def other_program(sandbox: Sandbox) -> None:
    """Another program's database, in either journal mode, with and without an application id."""
    for mode in ("DELETE", "WAL"):
        for mark in (0, 252006674):
            sandbox.path.unlink(missing_ok=True)
            connection = sqlite.connect(sandbox.path)
            connection.executescript(
                f"PRAGMA journal_mode = {mode}; PRAGMA application_id = {mark}; CREATE TABLE images (id)"
            )
            connection.close()
            sandbox.expect_refused(words="another program's database")


def truncated(sandbox: Sandbox) -> None:
    """A store truncated to any length is an error."""
    whole = sandbox.store().read_bytes()
    page = 4096
    sizes = [1, 50, 99, 100, 511, page - 1, page, page + 1, len(whole) - page, len(whole) - 1]
    for size in [*sizes, *(sandbox.draw.randrange(1, len(whole)) for _ in range(3))]:
        sandbox.path.write_bytes(whole[:size])
        sandbox.expect_refused(("db", "check"), ("--source", sandbox.layout(), "sync"), ("db", "migrate"))


def newer(sandbox: Sandbox) -> None:
    with sqlite.connect(sandbox.store()) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    sandbox.expect_refused(
        *(command for command in READING if command != ("db", "info")),
        *sandbox.writing_commands()[:2],
        words="newer than",
    )
    sandbox.expect_success(("db", "info"), *sandbox.writing_commands()[2:])


def older(sandbox: Sandbox) -> None:
    """An old store is refused with the command that migrates it, and works after that command."""
    sandbox.store(revision="0001")
    sandbox.expect_refused(
        *(command for command in READING if command != ("db", "info")),
        sandbox.writing_commands()[0],
        words="db migrate",
    )
    sandbox.expect_success(
        ("db", "info"), ASKING, *sandbox.writing_commands()[2:], ("db", "migrate"), *READING
    )


def half_made(sandbox: Sandbox) -> None:
    """An empty file, as a process leaves that is killed while creating a store."""
    sandbox.path.touch(mode=0o600)
    sandbox.expect_refused(*(c for c in READING if c != ("db", "info")), words="db migrate")
    sandbox.expect_success(("--source", sandbox.layout(), "sync"), ("db", "check"))


# --- limits of the kernel


def file_size_limit(sandbox: Sandbox) -> None:
    """A limit on the size of files, which fails writes like a full disk, and needs no root."""
    sandbox.store()

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    # What the listing confirms is written first, and may fit.
    result = run(sandbox.path, "--source", sandbox.layout(), "sync", before=limited)
    if result.code != FAILED or not is_imagekeep_error(result, "nothing was changed"):
        sandbox.seen.append((Harm.CRASHED, str(result)))
    sandbox.expect_refused(
        ("db", "backup"), ("db", "export", str(sandbox.directory / "e.db")), before=limited
    )
    sandbox.expect_success(before=limited)
    sandbox.expect_success(("--source", sandbox.layout(), "sync"))
    sandbox.check(1)


def no_descriptors(sandbox: Sandbox) -> None:
    """A process that may open only a few more files, one more each time."""
    sandbox.store()

    def limited(spare: int) -> Callable[[], None]:
        def limit() -> None:
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
            while (taken := os.open(os.devnull, os.O_RDONLY)) < highest:
                pass
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 1 + spare, taken + 1 + spare))

        return limit

    for number in (None, 0, 2):
        for spare in range(14):
            command = ("images",) if number is None else sandbox.writing_commands()[number]
            result = run(sandbox.path, *command, before=limited(spare))
            if (
                result.crashed
                or result.code not in (0, FAILED)
                or (result.code and not is_imagekeep_error(result, ""))
            ):
                sandbox.seen.append((Harm.CRASHED, f"{spare} to spare: {result}"))
    sandbox.check()


# --- no permission


def _as_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def nobodys_directory(sandbox: Sandbox) -> None:
    need_root()
    sandbox.store()
    sandbox.directory.chmod(0o700)
    sandbox.expect_refused(*READING, sandbox.writing_commands()[0], before=_as_nobody)


def nobodys_file(sandbox: Sandbox) -> None:
    need_root()
    sandbox.store()
    sandbox.directory.chmod(0o777)
    sandbox.expect_refused(*READING, sandbox.writing_commands()[0], before=_as_nobody)


def readable_file_in_anothers_directory(sandbox: Sandbox) -> None:
    """A store that may be read but has no companions, which this user may not make; its copy is read."""
    need_root()
    sandbox.store().chmod(0o644)
    sandbox.directory.chmod(0o755)
    copy_store(sandbox.path, sandbox.directory / "export.db")
    (sandbox.directory / "export.db").chmod(0o644)
    connect(sandbox.path).close()
    sandbox.expect_refused(*READING, sandbox.writing_commands()[0], before=_as_nobody)
    sandbox.path = sandbox.directory / "export.db"
    sandbox.expect_success(before=_as_nobody)


FAULTS: dict[str, Callable[[Sandbox], None]] = {
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


def inject(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Inject each named fault, or every fault, `count` times."""
    report = Report("faults", "faults")
    directory.chmod(0o755)
    for number in range(count):
        for name in kinds or FAULTS:
            place = directory / f"{name}-{number}"
            (place / "disk").mkdir(parents=True)
            try:
                skipped, seen = ask(_inject, name, place, seed + number)
            except ChildError as error:
                skipped, seen = False, [(Harm.HUNG if error.hung else Harm.CRASHED, str(error))]
            report.rounds += not skipped
            report.facts["skipped"] += skipped
            for harm, what in seen:
                report.add(harm, f"{name}: {what}")
    return report


def _inject(name: str, place: Path, seed: int) -> tuple[bool, list[Seen]]:
    """Inject one fault; return whether it was skipped, and the harms."""
    sandbox = Sandbox(place / "disk", seed)
    try:
        FAULTS[name](sandbox)
    except Skipped:
        return True, []
    return False, sandbox.seen
