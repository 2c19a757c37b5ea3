"""`imagekeep watch` as a process, and its status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagekeep.reader import Reader
from tests.containerd import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    """A source, a directory with a store that follows it, and the command."""

    def __init__(self, directory: Path, source: str) -> None:
        self.store = directory / "images.db"
        self._log = directory / "log"
        self._options = ["--store", str(self.store), "--source", source]

    def command(self, *arguments: str) -> list[str]:
        """Return a command line about the store and its source."""
        return [sys.executable, "-m", "imagekeep", *self._options, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command until it ends."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=60
        )

    def check(self) -> None:
        """Check that the store agrees with its source, and is intact."""
        wait_until(lambda: self.run("diff").returncode == 0)
        check = self.run("db", "check")
        assert check.returncode == 0, check.stdout

    def info(self) -> dict[str, Any]:
        """Return the output of `db info`."""
        document: dict[str, Any] = json.loads(self.run("db", "info", "-o", "json").stdout)
        return document

    @contextmanager
    def watching(self, *options: str, **environment: str) -> Iterator[Watching]:
        """Run `imagekeep watch`; kill it at the end if it still runs."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self.command("watch", "--log-format", "json", *options),
                stderr=log,
                env={**os.environ, **environment},
            )
        watching = Watching(process, self.store, self._log)
        try:
            yield watching
        finally:
            if process.poll() is None:
                watching.kill()

    @contextmanager
    def following(self) -> Iterator[Watching]:
        """Run `imagekeep watch`, and wait until it has reconciled twice, so that the stream is live."""
        with self.watching() as watching:
            wait_until(lambda: watching.state("connected_at") and watching.state("reconciles") >= 2)
            yield watching


class Watching:
    """A process of `imagekeep watch`."""

    def __init__(self, process: subprocess.Popen[bytes], store: Path, log: Path) -> None:
        self._process = process
        self._store = store
        self._log = log

    def state(self, field: str) -> Any:
        """Return this process's watcher status, or None before it is written."""
        if self._process.poll() is not None:
            raise AssertionError(f"the watcher ended: {self._log.read_text()}")
        with Reader.open(self._store) as reader:
            state = reader.watcher()
        return getattr(state, field) if state and state.process_id == self._process.pid else None

    def threads(self) -> set[str]:
        """Return the names of its threads (proc(5): comm)."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        names = set()
        for task in tasks.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end meanwhile
                names.add((task / "comm").read_text().strip())
        return names

    def lines(self) -> list[dict[str, str]]:
        """Return the log, including that of earlier watchers of this node."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code, and the seconds until the process ended."""
        sent = time.monotonic()
        self._process.send_signal(number)
        code = self._process.wait(timeout=30)
        return code, time.monotonic() - sent

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.end(signal.SIGKILL)


@contextmanager
def manager(directory: Path) -> Iterator[socket.socket]:
    """Listen like systemd, at `notify` in a directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(directory / "notify"))
        listening.settimeout(30)
        yield listening
