"""Child processes that are killed, or that look after one who was.

They are forked from a process that has imported everything and has one thread, so that a thousand of them
take no longer than their work. The tests run that process as a program, for pytest has threads.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CRASHED = 70
"""The exit code of a child in which an exception was not caught."""

PATIENCE = 60.0
"""Seconds after which a child that should have ended has hung."""


class Child:
    """A forked process that runs `work(report, *arguments)`; what it reports is read line by line.

    Its standard output is heard too: what a command prints is what it acknowledges.
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
        """Take in lines for so long, or until one is `until`; tell whether the child goes on reporting."""
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
        """End it as a crash would: at once, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Wait for its end, taking in what is left to hear; tell whether it came, and kill it where not."""
        ended = not self.listen(seconds)
        if not ended:
            self.kill()
        while self.listen(PATIENCE):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        self.complaint = _read_all(self._errors)
        os.close(self._reading)
        os.close(self._errors)
        return ended


def ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a question answers in a child of its own; raises ChildError where it ends without one."""
    child = Child(_answer, question, arguments)
    ended = child.wait()
    if not ended:
        raise ChildError("it did not answer in time", hung=True)
    if child.code or not child.lines:
        raise ChildError(child.complaint or f"it ended with {child.code}")
    return pickle.loads(bytes.fromhex(child.lines[-1]))


class ChildError(Exception):
    """Raised when a child did not answer; `hung` where it did not end."""

    def __init__(self, message: str, *, hung: bool = False) -> None:
        super().__init__(message)
        self.hung = hung


def _answer(report: Callable[[str], None], question: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    report(pickle.dumps(question(*arguments)).hex())


def _run(writing: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Do the work of a child, and end it without anything of the parent's being cleaned up."""

    def report(line: str) -> None:
        message = f"{line}\n".encode()
        while message:
            message = message[os.write(writing, message) :]

    try:
        os.dup2(writing, 1)
        # Made anew: the parent's knows of its own file whether it can be sought in.
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
    """Return what is left in a pipe that nobody writes to any more."""
    chunks = []
    while chunk := os.read(descriptor, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")
