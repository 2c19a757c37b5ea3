"""Runs CRI servers: a private containerd with made images, and `imagekeep serve`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.corpus import MANIFEST, PLATFORM, made_images
from benchmarks.http2 import Connection
from imagekeep.cri.protocol import LIST_IMAGES
from imagekeep.database.revision import HEAD
from imagekeep.sources.containerd import Containerd
from imagekeep.store import Store
from imagekeep.sync import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = ("containerd", "ctr")
DEADLINE = 300.0
"""Seconds to wait for a server at most."""

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - each containerd in it has a directory of its own, of mode 0700
"""Imports into containerd are ten times faster here than on a disk, which it syncs for each record."""

_MANAGED = "io.cri-containerd.image"
"""The label of a record that the CRI plugin has seen (containerd 1.6: pkg/cri/labels)."""

_CONFIGURATION = """
version = 2
root = "{root}"
state = "{directory}/state"
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


def missing() -> str | None:
    """Return the name of a program that is not installed, or None."""
    return next((program for program in PROGRAMS if shutil.which(program) is None), None)


@contextlib.contextmanager
def containerd(root: Path) -> Iterator[Path]:
    """Run a containerd on its root directory; yield its socket, which answers some time later."""
    with containerd_process(root) as (socket, _):
        yield socket


@contextlib.contextmanager
def containerd_process(root: Path) -> Iterator[tuple[Path, int]]:
    """Run a containerd on its root directory; yield its socket and its PID."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory, "config.toml")
        text = _CONFIGURATION.format(root=root, directory=directory, user=os.getuid(), group=os.getgid())
        configuration.write_text(text)
        with running(["containerd", "-c", str(configuration)]) as process:
            yield Path(directory, "grpc"), process


@contextlib.contextmanager
def imagekeep(store: Path) -> Iterator[Path]:
    """Run `imagekeep serve` on a store without a source; yield its socket, which answers some time later."""
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory, "cri.sock")
        command = ["-m", "imagekeep", f"--store={store}", "serve", f"--listen=unix://{socket}"]
        with running([sys.executable, *command]):
            yield socket


@contextlib.contextmanager
def constant(reply: bytes) -> Iterator[Path]:
    """Run a bare gRPC server that answers every ImageStatus with one reply; yield its socket."""
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory, "cri.sock")
        with running([sys.executable, "-m", "benchmarks.constant", str(socket), reply.hex()]):
            yield socket


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[int]:
    """Run a program until the context ends, and yield its PID.

    Raises ValueError with its output if it ends before.
    """
    environment = {name: value for name, value in os.environ.items() if name != "IMAGEKEEP_SOURCE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
        try:
            yield process.pid
            if process.poll() is not None:
                log.seek(0)
                raise ValueError(f"{command[0]} ended: {log.read()[-2000:]!r}")
        finally:
            process.terminate()
            process.wait()


def listed(socket: Path) -> bytes:
    """Return the reply to ListImages, or nothing if the server does not answer yet."""
    try:
        with contextlib.closing(Connection(socket, LIST_IMAGES.path)) as connection:
            return connection.ask(LIST_IMAGES.request().SerializeToString())
    except (OSError, ValueError):
        return b""


def ids_in(reply: bytes) -> set[str]:
    """Return the image ids in a reply to ListImages."""
    return {image.id for image in LIST_IMAGES.response.FromString(reply).images}


def wait_until(condition: Callable[[], bool], pause: float = 0.002) -> None:
    """Wait until a condition holds; raises ValueError after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise ValueError(f"timed out after {DEADLINE:.0f} s")
        time.sleep(pause)


def root_of(directory: Path, count: int) -> Path:
    """Return the root directory of a containerd with the first `count` images; make it if necessary."""
    root = directory / f"containerd-{count}"
    if not root.exists():
        memory = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else directory
        with tempfile.TemporaryDirectory(dir=memory) as swift:
            partial = root.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _fill(Path(swift), count)
            shutil.copytree(Path(swift, "root"), partial)
            partial.rename(root)
    return root


def synced_store(directory: Path, count: int) -> Path:
    """Return a store synced from a containerd with the first `count` images; make it if necessary."""
    path = directory / f"{HEAD}-containerd-{count}.db"
    if not path.exists():
        with containerd(root_of(directory, count)) as socket:
            wait_until(lambda: len(ids_in(listed(socket))) == count)
            partial = path.with_suffix(".partial")
            with (
                Containerd(str(socket)) as source,
                Store.open(partial, source=source, platform=PLATFORM) as store,
            ):
                if len(sync(store).transitions) != 2 * count:
                    raise ValueError("sync: not every reference")
            partial.with_name(f"{partial.name}-lock").unlink()
            partial.rename(path)
    return path


def _fill(directory: Path, count: int) -> None:
    """Import images into a new containerd, and wait until its CRI plugin has added a record for each id."""
    archive = directory / "images.tar"
    _write_archive(archive, count)
    with containerd(directory / "root") as socket:
        wait_until(socket.exists)
        ctr = ["ctr", "-a", str(socket), "-n", "k8s.io"]
        told = ["images", "import", "--no-unpack", "--all-platforms", str(archive)]
        subprocess.run([*ctr, *told], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        with Containerd(str(socket)) as source:

            def all_noticed() -> bool:
                records = source.records()
                return len(records) == 2 * count and all(_MANAGED in record.labels for record in records)

            wait_until(all_noticed, pause=0.5)


def _write_archive(path: Path, count: int) -> None:
    """Write an OCI archive of images without their layers."""
    with tarfile.open(path, "w") as archive:

        def write(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        entries = []
        for image in made_images(count):
            write(f"blobs/sha256/{image.image_id[7:]}", image.config_json)
            write(f"blobs/sha256/{image.target.digest[7:]}", image.manifest)
            named = {"io.containerd.image.name": image.tag}
            entries.append(
                {
                    "mediaType": MANIFEST,
                    "digest": image.target.digest,
                    "size": len(image.manifest),
                    "annotations": named,
                }
            )
        write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        write("index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
