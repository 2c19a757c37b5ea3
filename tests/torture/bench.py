"""A store in a directory of its own, the commands that meet a fault there, and what was seen."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.connection import connect
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import HEAD
from tests.images import LayoutWriter, named
from tests.torture.commands import ASKING, READING, ActionResult, run
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.torture.survey import Seen

FROZEN = Path(__file__).parents[1] / "data" / "stores"
FAILED = 125
REFUSALS = {FAILED}


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised where a fault cannot be made here; says what it needs."""


def need_root() -> None:
    """Raise Skipped if this process cannot become another user."""
    if os.geteuid():
        raise Skipped("becoming another user needs root")


class Bench:
    """A directory in which a fault is made, and what was seen there."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.path = directory / "images.db"
        self.draw = random.Random(seed)
        self.seen: list[Seen] = []

    def store(self, path: Path | None = None, revision: str = HEAD) -> Path:
        """Put a store with images there, migrated to the newest revision unless an older one is asked for."""
        path = path or self.path
        shutil.copyfile(FROZEN / f"{revision}.db", path)
        path.chmod(0o600)
        connect(path).close()  # into WAL mode, as every store is
        if revision == HEAD:
            migrate(path)
            for backup in path.parent.glob(f"{path.name}.*.backup"):
                backup.unlink()
            with closing(connect(path)) as connection:  # the frozen store follows a source that is not here
                connection.execute("UPDATE identity SET source = NULL, namespace = NULL")
        return path

    def layout(self) -> str:
        """Return the specifier of a layout with an image, outside of the directory of the fault."""
        directory = self.directory.parent / "layout"
        if not directory.exists():
            writer = LayoutWriter(directory)
            writer.write_index([named(writer.image(environment=["A=" + "x" * 20_000]), "v1")])
        return f"oci:{directory}"

    def writing(self) -> tuple[tuple[str, ...], ...]:
        """Return commands that write, or copy."""
        copies = self.directory.parent
        return (
            ("--source", self.layout(), "sync"),
            ("db", "migrate"),
            ("db", "backup", str(copies / f"backup-{self.draw.getrandbits(40)}.db")),
            ("db", "export", str(copies / f"export-{self.draw.getrandbits(40)}.db")),
        )

    def refused(
        self,
        *commands: tuple[str, ...],
        before: Callable[[], None] | None = None,
        words: str = "",
        codes: set[int] | None = None,
    ) -> None:
        """Run commands that must all fail with one line that names the file, and leave everything as it is."""
        was = snapshot(self.directory)
        for command in commands or (*READING, ASKING, *self.writing()):
            outcome = run(self.path, *command, before=before)
            if outcome.crashed:
                self.seen.append((Harm.HUNG if outcome.hung else Harm.CRASHED, str(outcome)))
            elif outcome.code not in (codes or REFUSALS) or not is_named(outcome, words):
                self.seen.append((Harm.BROKEN, f"not a named error: {outcome}"))
            if (now := snapshot(self.directory)) != was:
                self.seen.append((Harm.BROKEN, f"{outcome.command} changed {_changed(was, now)}"))
                was = now

    def works(self, *commands: tuple[str, ...], before: Callable[[], None] | None = None) -> None:
        """Run commands that must all succeed."""
        for command in commands or (*READING, ASKING):
            outcome = run(self.path, *command, before=before)
            if outcome.code:
                self.seen.append((Harm.HUNG if outcome.hung else Harm.CRASHED, f"should work: {outcome}"))

    def whole(self, images: int | None = None) -> None:
        """Look at the store's invariants, and count its images if it is said how many there are."""
        self.seen += broken_invariants(self.path)
        with Store.open(self.path, platform=PLATFORM) as store:
            if images is not None and len(store.list()) != images:
                self.seen.append((Harm.LOST, f"{len(store.list())} images, not {images}"))


def is_named(outcome: ActionResult, words: str) -> bool:
    """Return whether a complaint is one line of ours, with the words that it must have."""
    lines = outcome.complaint.strip().split("\n")
    return len(lines) == 1 and lines[0].startswith("Error: ") and words in lines[0]


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return type, mode and content of everything in a directory but empty lock files and SQLite's index."""
    found = {}
    for entry in sorted(directory.rglob("*")):
        status = entry.lstat()
        if entry.name.endswith("-shm") or (entry.name.endswith(("-lock", "-wal")) and not status.st_size):
            continue
        content = entry.read_bytes() if entry.is_file() and not entry.is_symlink() else b""
        found[str(entry.relative_to(directory))] = (status.st_mode, content)
    return found


def _changed(was: dict[str, tuple[int, bytes]], now: dict[str, tuple[int, bytes]]) -> list[str]:
    return sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))


@contextmanager
def mounted(bench: Bench, size: str) -> Iterator[None]:
    """Put a small disk in memory in the place of the directory; raises Skipped where this user may not."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "torture", str(bench.directory)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        raise Skipped("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(bench.directory)], check=True)


def remount(bench: Bench, mode: str) -> None:
    """Make the disk read-only, or writable again."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(bench.directory)], check=True)


def fill(bench: Bench, leave: int) -> Path:
    """Fill the disk up to some bytes; return the file that does, to be removed."""
    filler = bench.directory / "filler"
    free = shutil.disk_usage(bench.directory).free
    filler.write_bytes(bytes(max(0, free - leave)))
    return filler
