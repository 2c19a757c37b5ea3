"""Child processes: workers to kill, questions about what they left, and imagekeep's commands.

They are forked from a single-threaded process that has imported everything, so that they start at once. The tests
run that process as a program, because pytest has threads.
"""

from __future__ import annotations

import difflib  # noqa: F401 - click imports it when it parses; another user may not be able to read it
import os
import pickle
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.cli import main
from tests.torture.orders import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CRASHED = 70
"""Exit code of a child with an uncaught exception."""

HUNG_AFTER = 60.0
"""Seconds after which a child counts as hung."""


class Child:
    """A forked process that runs `work(report, *arguments)`, and reports in lines.

    Its standard output counts as reports, because what a command prints is its acknowledgement.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self._reading, writing = os.pipe()
        self._errors, errors = os.pipe()
        self._received = b""
        self.lines: list[str] = []
        self.code: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reading)
            os.close(self._errors)
            os.dup2(errors, 2)
            _run(writing, work, arguments)
        os.close(writing)
        os.close(errors)

    def listen(self, seconds: float, *, until: str | None = None) -> bool:
        """Read lines for some seconds, or until one is `until`; return whether the child may report more."""
        deadline = time.monotonic() + seconds
        while until is None or until not in self.lines:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reading], [], [], left)[0]:
                return True
            if not (chunk := os.read(self._reading, 1 << 16)):
                return False
            self._received += chunk
            *whole, self._received = self._received.split(b"\n")
            self.lines += [line.decode() for line in whole]
        return True

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = HUNG_AFTER) -> bool:
        """Read its lines until it ends; return whether it did in time, and kill it if not."""
        ended = not self.listen(seconds)
        if not ended:
            self.kill()
        while self.listen(HUNG_AFTER):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        self.stderr = _read_all(self._errors)
        os.close(self._reading)
        os.close(self._errors)
        return ended


def ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """Return the answer of a question asked in a child; raises ChildError if the child fails."""
    child = Child(_answer, question, arguments)
    ended = child.wait()
    if not ended:
        raise ChildError("the child timed out", hung=True)
    if child.code or not child.lines:
        raise ChildError(child.stderr or f"the child exited with {child.code}")
    return pickle.loads(bytes.fromhex(child.lines[-1]))


class ChildError(Exception):
    """Raised if a child does not answer; `hung` if it did not end."""

    def __init__(self, message: str, *, hung: bool = False) -> None:
        super().__init__(message)
        self.hung = hung


def _answer(report: Callable[[str], None], question: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    report(pickle.dumps(question(*arguments)).hex())


def _run(writing: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Do the work of a child, and exit without the parent's cleanup."""

    def report(line: str) -> None:
        message = f"{line}\n".encode()
        while message:
            message = message[os.write(writing, message) :]

    try:
        os.dup2(writing, 1)
        # New objects, because the parent's remember whether its own files are seekable.
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        work(report, *arguments)
        sys.stdout.flush()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        os.write(2, traceback.format_exc()[-4000:].encode())
        os._exit(CRASHED)
    os._exit(0)


def _read_all(descriptor: int) -> str:
    """Return the rest of a pipe whose writers have closed it."""
    chunks = []
    while chunk := os.read(descriptor, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")


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


class CommandResult(NamedTuple):
    """How a command ended."""

    command: str
    code: int
    output: str
    stderr: str
    hung: bool

    @property
    def crashed(self) -> bool:
        """Return whether it ended as no command should."""
        return self.hung or self.code < 0 or self.code == CRASHED or "Traceback" in self.stderr

    def __str__(self) -> str:
        return f"{self.command}: {'hung' if self.hung else self.code}: {self.stderr[-600:]}"


def run(path: Path, *arguments: str, before: Callable[[], None] | None = None) -> CommandResult:
    """Run imagekeep on a store in a child, after calling `before` there."""
    child = Child(_run_command, ["--store", str(path), "--platform", PLATFORM, *arguments], before)
    ended = child.wait()
    output = "\n".join(child.lines)
    return CommandResult(" ".join(arguments), child.code or 0, output, child.stderr, not ended)


def _run_command(
    report: Callable[[str], None], arguments: list[str], before: Callable[[], None] | None
) -> None:
    if before:
        before()
    code = main(arguments)
    sys.stdout.flush()
    raise SystemExit(code)
