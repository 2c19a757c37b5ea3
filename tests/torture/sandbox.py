"""A directory with a store in which a fault is injected, and the commands to run there."""

from __future__ import annotations

import os
import random
import re
from contextlib import closing
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.connection import connect
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import HEAD
from tests.database.stores import thawed
from tests.images import LayoutWriter, named
from tests.torture.children import ASKING, READING, CommandResult, run
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen

FAILED = 125
"""Exit code of a command that the store or the source fails."""


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised if a fault cannot be injected here; says what it needs."""


def need_root() -> None:
    """Raise Skipped if this process cannot become another user."""
    if os.geteuid():
        raise Skipped("becoming another user needs root")


class Sandbox:
    """A directory in which a fault is injected, and the harms seen there."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.path = directory / "images.db"
        self.draw = random.Random(seed)
        self.seen: list[Seen] = []

    def store(self, path: Path | None = None, revision: str = HEAD) -> Path:
        """Put a store with images there, of the newest revision or an older one."""
        path = path or self.path
        thawed(revision, path)
        if revision == HEAD:
            migrate(path)
            for backup in path.parent.glob(f"{path.name}.*.backup"):
                backup.unlink()
            # The frozen store follows a source that does not exist here.
            with closing(connect(path)) as connection:
                connection.execute("UPDATE identity SET source = NULL, namespace = NULL")
        return path

    def layout(self) -> str:
        """Return the specifier of a layout with an image, outside the directory of the fault."""
        directory = self.directory.parent / "layout"
        if not directory.exists():
            writer = LayoutWriter(directory)
            writer.write_index([named(writer.image(environment=["A=" + "x" * 20_000]), "v1")])
        return f"oci:{directory}"

    def writing_commands(self) -> tuple[tuple[str, ...], ...]:
        """Return commands that write, or copy."""
        copies = self.directory.parent
        return (
            ("--source", self.layout(), "sync"),
            ("db", "migrate"),
            ("db", "backup", str(copies / f"backup-{self.draw.getrandbits(40)}.db")),
            ("db", "export", str(copies / f"export-{self.draw.getrandbits(40)}.db")),
        )

    def expect_refused(
        self,
        *commands: tuple[str, ...],
        before: Callable[[], None] | None = None,
        words: str = "",
    ) -> None:
        """Run commands that must all fail with one line that has these words, and change nothing."""
        was = snapshot(self.directory)
        for command in commands or (*READING, ASKING, *self.writing_commands()):
            result = run(self.path, *command, before=before)
            if result.crashed:
                self.seen.append((Harm.HUNG if result.hung else Harm.CRASHED, str(result)))
            elif result.code != FAILED or not is_imagekeep_error(result, words):
                self.seen.append((Harm.BROKEN, f"not a named error: {result}"))
            if (now := snapshot(self.directory)) != was:
                self.seen.append((Harm.BROKEN, f"{result.command} changed {_changed(was, now)}"))
                was = now

    def expect_success(self, *commands: tuple[str, ...], before: Callable[[], None] | None = None) -> None:
        """Run commands that must all succeed."""
        for command in commands or (*READING, ASKING):
            result = run(self.path, *command, before=before)
            if result.code:
                self.seen.append((Harm.HUNG if result.hung else Harm.CRASHED, f"should work: {result}"))

    def check(self, images: int | None = None) -> None:
        """Check the store's invariants, and its number of images if given."""
        self.seen += broken_invariants(self.path)
        with Store.open(self.path, platform=PLATFORM) as store:
            if images is not None and len(store.list()) != images:
                self.seen.append((Harm.LOST, f"{len(store.list())} images, not {images}"))


def is_imagekeep_error(result: CommandResult, words: str) -> bool:
    """Return whether standard error is one error of imagekeep's with these words, after warnings at most."""
    *warnings, last = result.stderr.strip().split("\n")
    return all(map(_WARNING.match, warnings)) and last.startswith("Error: ") and words in last


_WARNING = re.compile("cannot list (blobs|containers|snapshots)")


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return type, mode and content of everything in a directory except empty lock files and SQLite's index."""
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
