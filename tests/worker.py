"""Another process with its own store on the same file, which performs operations on request.

::

    with Worker() as worker:
        worker.open(path)
        answer = worker.ask(function, argument)     function(store, argument), over there

It is a plain program that reads pickled requests, so that nothing of the test's own process is in it.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from imagekeep import Store

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[1]
PLATFORM = "linux/amd64"

Answer = TypeVar("Answer")


class Worker:
    """Starts the other process and talks to it over its standard input and output."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
        )

    def open(self, path: Path) -> None:
        """Let the process open the store at `path`, and close the one it had."""
        self._send(path)

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a function of a module answers there for that process's store and these arguments."""
        answer: Answer = self._send((function, arguments))
        return answer

    def close(self) -> None:
        """End the process, which closes its store."""
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: Any) -> Any:
        """Send a request and wait for its answer; EOFError where the process has died."""
        assert self.process.stdin
        assert self.process.stdout
        pickle.dump(request, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


def serve() -> None:
    """Answer requests until the end of standard input."""
    store: Store | None = None
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        if isinstance(request, Path):
            if store is not None:
                store.close()
            store, answer = Store.open(request, platform=PLATFORM), None
        else:
            function, arguments = request
            answer = function(store, *arguments)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    if store is not None:
        store.close()


if __name__ == "__main__":
    serve()
