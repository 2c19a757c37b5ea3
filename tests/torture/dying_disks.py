"""A disk whose blocks fail: a file system on a loop device, beneath whose file there is no space any more.

What was written is refused by the device when it is synced, as by a disk that dies: an error of input and output
that the kernel itself gives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagekeep import Store
from tests.images import LayoutWriter, named
from tests.torture.bench import REFUSALS, Bench, Skipped, is_named
from tests.torture.commands import run
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK = 64 << 20
BACKING = 16 << 20
ROUNDS = 6


def dying_disk(bench: Bench) -> None:
    """A sync to a disk that takes no block more is refused, or done; what was done is there once it is well."""
    with _disk_on_a_file(bench) as backing:
        bench.store()
        for number in range(1, ROUNDS + 1):
            room = bench.draw.randrange(400_000)
            filler = backing / "filler"
            filler.write_bytes(bytes(max(0, shutil.disk_usage(backing).free - room)))
            outcome = run(bench.path, "--source", _layout(bench, number), "sync", "--replace-source")
            if outcome.crashed or outcome.code not in {0, *REFUSALS}:
                bench.seen.append((Harm.CRASHED, f"{room} left: {outcome}"))
            elif outcome.code and not is_named(outcome, ""):
                bench.seen.append((Harm.BROKEN, f"not a named error: {outcome}"))
            filler.unlink()
            _plug_in_again(bench, backing)
            _require(bench, number, acknowledged=outcome.code == 0)
            bench.works(("--source", _layout(bench, number), "sync", "--replace-source"), ("db", "check"))


def _layout(bench: Bench, number: int) -> str:
    """Return the specifier of a layout with one image, that has a megabyte of environment."""
    directory = bench.directory.parent / f"layout-{number}"
    if not directory.exists():
        writer = LayoutWriter(directory)
        environment = [f"NUMBER={number}", "A=" + os.urandom(500_000).hex()]
        writer.write_index([named(writer.image(environment=environment), f"v{number}")])
    return f"oci:{directory}"


def _require(bench: Bench, number: int, *, acknowledged: bool) -> None:
    """Look at the store's invariants, and whether it says what the last sync said that was acknowledged."""
    bench.whole()
    with Store.open(bench.path, platform=PLATFORM) as store:
        tags = {name.rpartition(":")[2] for image in store.list() for name in image.references}
    expected = number if acknowledged else number - 1
    if expected and f"v{expected}" not in tags:
        bench.seen.append(
            (Harm.LOST, f"sync {number}, acknowledged: {acknowledged}, and the store has {tags}")
        )


@contextmanager
def _disk_on_a_file(bench: Bench) -> Iterator[Path]:
    """Put a disk in the place of the directory, whose blocks are in a sparse file; give that file's directory."""
    backing = bench.directory.parent / "backing"
    backing.mkdir()
    if not shutil.which("mkfs.ext4") or not _ran(
        "mount", "-t", "tmpfs", "-o", f"size={BACKING}", "x", str(backing)
    ):
        raise Skipped("mounting needs root, and the tools of ext4")
    try:
        image = backing / "disk"
        image.touch()
        os.truncate(image, DISK)
        _run("mkfs.ext4", "-q", "-J", "size=4", str(image))
        if not _plug_in(bench, backing):
            raise Skipped("there is no loop device")
        try:
            yield backing
        finally:
            _run("umount", str(bench.directory))
    finally:
        _run("umount", "-l", str(backing))


def _plug_in(bench: Bench, backing: Path) -> bool:
    return _ran("mount", "-o", "loop,errors=continue", str(backing / "disk"), str(bench.directory))


def _plug_in_again(bench: Bench, backing: Path) -> None:
    """Forget what the kernel remembers of the disk, and take it from the disk itself."""
    _run("umount", str(bench.directory))
    subprocess.run(["e2fsck", "-fy", str(backing / "disk")], capture_output=True, check=False)
    if not _plug_in(bench, backing):
        raise RuntimeError("the disk could not be mounted again")


def _ran(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)
