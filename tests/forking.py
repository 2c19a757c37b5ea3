"""Forked children of a test, whose answers the test waits for."""

from __future__ import annotations

import os
import pickle
import select
import traceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT = 60.0
"""Seconds after which a hanging test fails."""

Answer = TypeVar("Answer")


class Forked(Generic[Answer]):
    """A child of this process that runs `work` and sends what it returns, or the error that it raises."""

    def __init__(self, work: Callable[[], Answer]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _answer(writing, work)
        os.close(writing)

    def result(self) -> Answer:
        """Wait for the child's end; return its answer or raise its error."""
        chunks = []
        while True:
            assert select.select([self._reading], [], [], WAIT)[0], "the child hangs"
            if not (chunk := os.read(self._reading, 1 << 16)):
                break
            chunks.append(chunk)
        os.close(self._reading)
        os.waitpid(self.pid, 0)
        answer: Any = pickle.loads(b"".join(chunks))
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]


def _answer(writing: int, work: Callable[[], object]) -> None:
    """Send what work returns and end the process, whatever happens: it must not go on with the test."""
    try:
        try:
            answer: object = work()
        except BaseException as error:
            error.add_note(traceback.format_exc())
            answer = error
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)
