"""`imagekeep serve` as a process, which reports readiness by systemd's protocol."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cri.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_WAIT = 60.0
"""Seconds for a process to start on a busy machine."""


class Process:
    """One `imagekeep serve`; `directory` holds its store, its socket and its log."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        source: str | None = None,
        descriptors: int | None = None,
        hard: int | None = None,
    ) -> None:
        """Start it; `descriptors` and `hard` limit its open files."""
        limits = [f"ulimit -S -n {descriptors}; ulimit -H -n {hard or descriptors};"] if descriptors else []
        # A shell sets them, because a process with gRPC can only fork to exec.
        shell = ["sh", "-c", f'{" ".join(limits)} exec "$@"', "sh"]
        self.socket = directory / "cri.sock"
        self.log = directory / "log"
        address = directory / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(address))
            manager.settimeout(START_WAIT)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *shell,
                        sys.executable,
                        "-m",
                        "imagekeep",
                        f"--store={directory / 'images.db'}",
                        *([f"--source={source}"] if source else []),
                        "serve",
                        f"--listen=unix://{self.socket}",
                        *options,
                    ],
                    env={**os.environ, "NOTIFY_SOCKET": str(address), "IMAGEKEEP_SOURCE": ""},
                    stdout=log,
                    stderr=log,
                )
            try:
                assert manager.recv(64) == b"READY=1"
            except TimeoutError:
                self.end(signal.SIGKILL)
                pytest.fail(f"no server within {START_WAIT:g} s: {self.log.read_text()}")

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Stop it with a signal, and return its exit code."""
        self._process.send_signal(how)
        return self._process.wait(seconds)

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait(60)

    def client(self) -> Client:
        """Return a new client of it."""
        return Client(self.socket)

    @property
    def pid(self) -> int:
        """Return its PID."""
        return self._process.pid


@contextlib.contextmanager
def serving(
    directory: Path,
    *options: str,
    source: str | None = None,
    descriptors: int | None = None,
    hard: int | None = None,
) -> Iterator[Process]:
    """Run a server until the context ends."""
    process = Process(directory, *options, source=source, descriptors=descriptors, hard=hard)
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)
