"""A real containerd for tests, with everything it has in a directory of its own."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.errors import UnavailableError
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.connection import Connection
from imagekeep.sources.containerd.protocol import UPDATE_IMAGE
from tests.images import IMAGE_NAME, LayoutWriter, busybox_layout, docker_archive, tar_of_directory
from tests.tools import require, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CRI = "io.containerd.grpc.v1.cri"
IMAGES = "io.containerd.grpc.v1.images"
K8S = "k8s.io"

CONFIGURATION = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = {disabled}
[grpc]
address = "{directory}/grpc"
uid = {user}
gid = {group}
[ttrpc]
address = "{directory}/ttrpc"
uid = {user}
gid = {group}
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{directory}/cni"
bin_dir = "{directory}/cni"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
"""

# imagekeep itself never creates a record; the request and the reply are an update's on the wire.
CREATE_IMAGE = dataclasses.replace(UPDATE_IMAGE, path="/containerd.services.images.v1.Images/Create")

_NUMBERS = itertools.count(1)


class Daemon:
    """A containerd that a test may also stop, end and start again; `directory` has all that it writes."""

    def __init__(self, directory: Path, disabled: tuple[str, ...]) -> None:
        self.directory = directory
        self.socket = str(directory / "grpc")
        self._process: subprocess.Popen[bytes] | None = None
        configuration = CONFIGURATION.format(
            directory=directory, disabled=json.dumps(disabled), user=os.getuid(), group=os.getgid()
        )
        (directory / "config.toml").write_text(configuration)

    def start(self) -> None:
        """Start it and wait until it answers; fail with its log where it does not."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [require("containerd"), "-c", self.directory / "config.toml"], stdout=log, stderr=log
            )
        wait_until(self._answers)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by its own process, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let it hang: it holds its socket, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            threads = Path("/proc", str(self._process.pid), "task")
            wait_until(lambda: all(is_stopped(thread) for thread in threads.iterdir()))
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ctr(self, *arguments: str | Path, namespace: str = K8S) -> str:
        """Run `ctr` against it and return what it printed."""
        return os.fsdecode(run("ctr", "-a", self.socket, "-n", namespace, *arguments))

    def import_archive(self, archive: Path, namespace: str = K8S) -> None:
        """Import the images of an archive, without unpacking them."""
        self.ctr("images", "import", "--no-unpack", "--all-platforms", archive, namespace=namespace)

    def make_image(
        self, directory: Path, *names: str, namespace: str = K8S, layers: tuple[bytes, ...] = (b"layer",)
    ) -> dict[str, Any]:
        """Import a new image, unlike any other, under these names; return its manifest's descriptor.

        `directory` must not be there yet; the image's layout is written there.
        """
        layout = LayoutWriter(directory)
        image = layout.image(environment=[f"NUMBER={next(_NUMBERS)}", f"WORKER={os.getpid()}"], layers=layers)
        layout.write_index([{**image, "annotations": {IMAGE_NAME: name}} for name in names])
        self.import_archive(tar_of_directory(directory, directory.with_suffix(".tar")), namespace)
        return {**image, "image_id": layout.config_digest(image)}

    def make_runnable(self, directory: Path, name: str, namespace: str = K8S) -> None:
        """Import and unpack an image of busybox, for containers; its layout is written to `directory`."""
        archive = docker_archive(busybox_layout(directory), "v1", directory.with_suffix(".tar"), name)
        self.ctr("images", "import", archive, namespace=namespace)

    def make_container(self, image: str, container_id: str, *options: str, namespace: str = K8S) -> None:
        """Create a container of an unpacked image; it is not started."""
        self.ctr("containers", "create", *options, image, container_id, namespace=namespace)

    def remove_container(self, container_id: str, namespace: str = K8S) -> None:
        """Remove a container and its snapshot."""
        self.ctr("containers", "rm", container_id, namespace=namespace)

    @contextmanager
    def running_container(self, image: str, container_id: str, namespace: str = K8S) -> Iterator[None]:
        """Run a container of busybox until the context ends, which kills its process and removes it."""
        command = ("/bin/busybox", "sleep", "1000")
        self.ctr("run", "--detach", image, container_id, *command, namespace=namespace)
        try:
            yield
        finally:
            self.ctr("tasks", "rm", "--force", container_id, namespace=namespace)
            self.remove_container(container_id, namespace)

    def make_record(self, name: str, target: dict[str, Any], namespace: str = K8S) -> None:
        """Give a target a name of any bytes; `ctr` takes only references, from containerd 2 on."""
        fields = {"media_type": target["mediaType"], "digest": target["digest"], "size": target["size"]}
        request = CREATE_IMAGE.request(image={"name": os.fsencode(name), "target": fields})
        with closing(Connection(self.socket, namespace)) as connection:
            connection.call(CREATE_IMAGE, request, timeout=10)

    def _answers(self) -> bool:
        """Return whether it answers calls; fail where it has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"containerd did not start: {(self.directory / 'log').read_text()}")
        try:
            return bool(self.version())
        except UnavailableError:
            return False

    def version(self) -> str:
        """Return the version that it says it has."""
        with Containerd(self.socket) as source:
            return source.version().version


@contextmanager
def running(directory: Path, *disabled: str) -> Iterator[Daemon]:
    """Run a containerd in a new directory, without the plugins named; it is ready in 0.05 s.

    It runs as whoever runs the tests, which containerd can as long as it starts no container.
    """
    require("ctr")
    directory.mkdir(exist_ok=True)
    daemon = Daemon(directory, disabled)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()


def is_stopped(thread: Path) -> bool:
    """Return whether a thread has taken the signal to stop (proc(5), stat: the state after the name)."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until a condition holds, looking often; fail where it does not come to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not come to hold within {seconds:g} s: {condition}")
        time.sleep(0.005)
