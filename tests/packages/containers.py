"""Containers of the image, run by the tests' containerd with the node's socket and store mounted."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.containerd import K8S, wait_until
from tests.tools import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.containerd import Daemon

STORE = "/var/lib/imagekeep"

SOCKETS = "/run/imagekeep"

_NUMBERS = itertools.count(1)


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class Node:
    """A containerd, and what runs on it; `image` is imagekeep's."""

    def __init__(self, daemon: Daemon, image: str) -> None:
        self.daemon = daemon
        self._image = image

    def command(self, name: str, directory: Path, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        """Return the command line that runs imagekeep in a container.

        `directory` is mounted as the store's. The root file system is read-only and there is no network.
        """
        mounts = {self.daemon.socket: "/run/containerd/containerd.sock", str(directory): STORE}
        if (sockets := directory.with_name("run")).is_dir():
            mounts[str(sockets)] = SOCKETS
        return [
            require("ctr"), "-a", self.daemon.socket, "-n", K8S, "run", "--rm", "--read-only",
            *(f"--mount=type=bind,src={each},dst={mounts[each]},options=rbind:rw" for each in mounts),
            *options, self._image, name, "/usr/bin/imagekeep", *words,
        ]  # fmt: skip

    def inside(self, directory: Path, *words: str, options: tuple[str, ...] = ()) -> Finished:
        """Run a command in a container to its end."""
        name = f"command-{os.getpid()}-{next(_NUMBERS)}"
        return _finish(self.command(name, directory, *words, options=options))

    def outside(self, directory: Path, *words: str) -> Finished:
        """Run a command on the node itself."""
        settings = [f"--store={directory / 'images.db'}", f"--source=containerd:{self.daemon.socket}"]
        return _finish([sys.executable, "-m", "imagekeep", *settings, *words])

    @contextlib.contextmanager
    def running(self, directory: Path, *words: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
        """Run a command in a container until the context ends."""
        container = Container(self, directory, words, options)
        try:
            yield container
        finally:
            container.end(signal.SIGKILL)


class Container:
    """A running container; `log` is what it printed so far."""

    def __init__(self, node: Node, directory: Path, words: tuple[str, ...], options: tuple[str, ...]) -> None:
        self._node, self._name = node, f"service-{os.getpid()}-{next(_NUMBERS)}"
        self._log = directory.with_name(f"{self._name}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                node.command(self._name, directory, *words, options=options), stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        """What it and ctr have printed."""
        return self._log.read_text()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; fail with the log if the container ends first."""

        def holds() -> object:
            if self._process.poll() is not None:
                pytest.fail(f"the container has ended: {self.log}")
            return condition()

        wait_until(holds)

    def python(self, code: str) -> str:
        """Run Python code in the container, beside imagekeep; return what it printed."""
        command = ["/usr/bin/python3", "-ISc", f"import sys; sys.path[:0] = ['/usr/lib/imagekeep']; {code}"]
        exec_id = f"python-{next(_NUMBERS)}"
        return self._node.daemon.ctr("task", "exec", "--exec-id", exec_id, self._name, *command)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        if self._process.poll() is None:
            with contextlib.suppress(BaseException):  # it may just have ended
                self._node.daemon.ctr("task", "kill", "--signal", how.name, self._name)
        return self._process.wait(30)


def _finish(command: list[str]) -> Finished:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    return Finished(done.returncode, done.stdout, done.stderr)
