"""The commands as children: with what they print, how they end, and what was done to them before."""

from __future__ import annotations

import difflib  # noqa: F401 - click's, when it parses; another user may not be able to read it
import sys
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.cli import main
from tests.torture.children import CRASHED, Child
from tests.torture.orders import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READING = (
    ("images",),
    ("images", "-o", "json"),
    ("image", "inspect", "busybox:1.36"),
    ("image", "exists", "busybox:1.36"),
    ("image", "history", "busybox:1.36"),
    ("db", "info"),
    ("db", "check"),
)


ASKING = ("query", "SELECT count(*) FROM images")
"""Reads a store of any revision, as `db info` does."""


class ActionResult(NamedTuple):
    """How a command ended."""

    command: str
    code: int
    output: str
    complaint: str
    hung: bool

    @property
    def crashed(self) -> bool:
        """Return whether it ended in a way that no command should."""
        return self.hung or self.code < 0 or self.code == CRASHED or "Traceback" in self.complaint

    def __str__(self) -> str:
        return f"{self.command}: {'hung' if self.hung else self.code}: {self.complaint[-600:]}"


def run(path: Path, *arguments: str, before: Callable[[], None] | None = None) -> ActionResult:
    """Run the command on a store in a child, which does something to itself before."""
    child = Child(_run, ["--store", str(path), "--platform", PLATFORM, *arguments], before)
    ended = child.wait()
    output = "\n".join(child.lines)
    return ActionResult(" ".join(arguments), child.code or 0, output, child.complaint, not ended)


def _run(report: Callable[[str], None], arguments: list[str], before: Callable[[], None] | None) -> None:
    if before:
        before()
    code = main(arguments)
    sys.stdout.flush()
    raise SystemExit(code)
