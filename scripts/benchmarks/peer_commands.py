"""Commands that list and look up images; their answer is what they print."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks import daemons, stores
from benchmarks.corpus import made_images
from benchmarks.peer_libraries import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.corpus import MadeImage

TIMEOUT = 60.0
"""Seconds until a command counts as hung."""


def output_of(*command: str | Path) -> str:
    """Return what a command prints; raises CalledProcessError, or FileNotFoundError if it is not installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(  # noqa: S603 - a peer's own command
        list(command), check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=TIMEOUT
    )
    return done.stdout


@contextlib.contextmanager
def imagekeep(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield the imagekeep command on a store."""
    command = [sys.executable, "-m", "imagekeep", "--store", str(stores.store_of(kept, count))]
    inspect = [*command, "image", "inspect"]
    yield Peer(
        lambda: _hex(output_of(*command, "images", "-q")),
        lambda name: output_of(*inspect, name),
        lambda truncated: output_of(*inspect, truncated),
    )


def ctr_version() -> str:
    """Return ctr's version."""
    if missing := daemons.missing():
        raise FileNotFoundError(missing)
    return output_of("ctr", "--version").split()[2]


@contextlib.contextmanager
def ctr(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield ctr on a containerd; it filters the records that the CRI names by image id."""
    with daemons.containerd(daemons.root_of(kept, count)) as socket:
        daemons.wait_until(lambda: bool(daemons.listed(socket)))
        command = ["ctr", "-a", str(socket), "-n", "k8s.io", "images", "ls"]
        id_of = {image.tag: image.image_id for image in made_images(count)}

        def by_name(name: str) -> str:
            return id_of[output_of(*command, "-q", f"name=={name}").strip()]

        yield Peer(
            lambda: _hex(output_of(*command, "-q")),  # without it ctr reads every manifest too
            by_name,
            lambda truncated: output_of(*command, "-q", f"name~=^sha256:{truncated}"),
        )


def containers_storage_version() -> str:
    """Return the version of containers-storage, the command of podman's library."""
    if shutil.which("containers-storage") is None:
        raise FileNotFoundError("containers-storage")
    return output_of("dpkg-query", "-W", "-f", "${Version}", "containers-storage")


@contextlib.contextmanager
def containers_storage(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield containers-storage on podman's kind of store: an images.json with the documents beside it."""
    images = own / "graph/vfs-images"
    images.mkdir(parents=True)
    (images / "images.json").write_text(json.dumps([_put(images, image) for image in made_images(count)]))
    command = ["containers-storage", "--graph", str(own / "graph"), "--run", str(own / "run")]
    command += ["--storage-driver", "vfs"]
    yield Peer(
        lambda: _hex(output_of(*command, "images", "--json")),
        lambda name: output_of(*command, "image", name),
        lambda truncated: output_of(*command, "image", truncated),
    )


def _put(images: Path, image: MadeImage) -> dict[str, object]:
    """Write an image's documents; return its entry (containers/storage: images.go, Image)."""
    documents = {"manifest": image.manifest, image.image_id: image.config_json}
    directory = images / image.image_id[7:]
    directory.mkdir()
    for name, content in documents.items():
        encoded = name if name == "manifest" else f"={base64.b64encode(name.encode()).decode()}"
        (directory / encoded).write_bytes(content)
    return {
        "id": image.image_id[7:],
        "digest": image.target.digest,
        "names": image.references,
        "metadata": "{}",
        "big-data-names": list(documents),
        "big-data-sizes": {name: len(content) for name, content in documents.items()},
        "big-data-digests": {"manifest": image.target.digest, image.image_id: image.image_id},
        "created": "2025-06-15T08:30:00Z",
    }


def crictl_version() -> str:
    """Return crictl's version."""
    return output_of("crictl", "--version").split()[-1]


@contextlib.contextmanager
def crictl(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield crictl on a containerd's CRI."""
    with daemons.containerd(daemons.root_of(kept, count)) as socket:
        daemons.wait_until(lambda: bool(daemons.listed(socket)))
        command = ["crictl", "--image-endpoint", f"unix://{socket}"]
        yield Peer(
            lambda: _hex(output_of(*command, "images", "-q")),
            lambda name: output_of(*command, "inspecti", name),
            lambda truncated: output_of(*command, "inspecti", truncated),
        )


def _hex(printed: str) -> set[str]:
    """Return the ids in a command's output."""
    words = printed.replace('"', " ").replace(",", " ").split()
    return {f"sha256:{word.removeprefix('sha256:')}" for word in words if len(word) in (64, 71)}
