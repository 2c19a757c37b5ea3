"""Full, read-only and failing disks, beneath updates and migrations.

A full disk is a small file system in memory. A failing one is a file system on a loop device whose backing file
runs out of space: the kernel reports an I/O error when a write is synced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.database.backup import copy_store
from imagekeep.database.connection import connect
from imagekeep.database.create import read_revision
from imagekeep.database.driver import sqlite
from imagekeep.database.revision import HEAD
from tests.database.rows import BEFORE_PLATFORMS
from tests.images import LayoutWriter, named
from tests.torture.children import READING, run
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm
from tests.torture.sandbox import FAILED, Sandbox, Skipped, is_imagekeep_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK = 64 << 20
BACKING = 16 << 20
ROUNDS = 6
OLD = "0001"


@contextlib.contextmanager
def mounted(sandbox: Sandbox, size: str) -> Iterator[None]:
    """Mount a small file system in memory on the directory; raises Skipped without permission."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "torture", str(sandbox.directory)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        raise Skipped("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(sandbox.directory)], check=True)


def remount(sandbox: Sandbox, mode: str) -> None:
    """Make the disk read-only, or writable again."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(sandbox.directory)], check=True)


def fill(sandbox: Sandbox, leave: int) -> Path:
    """Fill the disk except for some bytes; return the file to remove."""
    filler = sandbox.directory / "filler"
    free = shutil.disk_usage(sandbox.directory).free
    filler.write_bytes(bytes(max(0, free - leave)))
    return filler


def dying_disk(sandbox: Sandbox) -> None:
    """A sync to a disk without free blocks is refused or done; what is done is there once the disk works again."""
    with _disk_on_a_file(sandbox) as backing:
        sandbox.store()
        for number in range(1, ROUNDS + 1):
            room = sandbox.draw.randrange(400_000)
            filler = backing / "filler"
            filler.write_bytes(bytes(max(0, shutil.disk_usage(backing).free - room)))
            result = run(sandbox.path, "--source", _layout(sandbox, number), "sync", "--replace-source")
            if result.crashed or result.code not in (0, FAILED):
                sandbox.seen.append((Harm.CRASHED, f"{room} left: {result}"))
            elif result.code and not is_imagekeep_error(result, ""):
                sandbox.seen.append((Harm.BROKEN, f"not a named error: {result}"))
            filler.unlink()
            _plug_in_again(sandbox, backing)
            _require(sandbox, number, acknowledged=result.code == 0)
            sandbox.expect_success(
                ("--source", _layout(sandbox, number), "sync", "--replace-source"), ("db", "check")
            )


def _layout(sandbox: Sandbox, number: int) -> str:
    """Return the specifier of a layout of one image with a megabyte of environment."""
    directory = sandbox.directory.parent / f"layout-{number}"
    if not directory.exists():
        writer = LayoutWriter(directory)
        environment = [f"NUMBER={number}", "A=" + os.urandom(500_000).hex()]
        writer.write_index([named(writer.image(environment=environment), f"v{number}")])
    return f"oci:{directory}"


def _require(sandbox: Sandbox, number: int, *, acknowledged: bool) -> None:
    """Check the invariants, and that the store has the image of the last acknowledged sync."""
    sandbox.check()
    with Store.open(sandbox.path, platform=PLATFORM) as store:
        tags = {name.rpartition(":")[2] for image in store.list() for name in image.references}
    expected = number if acknowledged else number - 1
    if expected and f"v{expected}" not in tags:
        sandbox.seen.append(
            (Harm.LOST, f"sync {number}, acknowledged: {acknowledged}, and the store has {tags}")
        )


@contextlib.contextmanager
def _disk_on_a_file(sandbox: Sandbox) -> Iterator[Path]:
    """Mount a file system on the directory, backed by a sparse file; yield that file's directory."""
    backing = sandbox.directory.parent / "backing"
    backing.mkdir()
    if not shutil.which("mkfs.ext4") or not _ran(
        "mount", "-t", "tmpfs", "-o", f"size={BACKING}", "x", str(backing)
    ):
        raise Skipped("mounting needs root and mkfs.ext4")
    try:
        image = backing / "disk"
        image.touch()
        os.truncate(image, DISK)
        _run("mkfs.ext4", "-q", "-J", "size=4", str(image))
        if not _plug_in(sandbox, backing):
            raise Skipped("there is no loop device")
        try:
            yield backing
        finally:
            _run("umount", str(sandbox.directory))
    finally:
        _run("umount", "-l", str(backing))


def _plug_in(sandbox: Sandbox, backing: Path) -> bool:
    return _ran("mount", "-o", "loop,errors=continue", str(backing / "disk"), str(sandbox.directory))


def _plug_in_again(sandbox: Sandbox, backing: Path) -> None:
    """Remount the disk, so that nothing comes from the kernel's cache."""
    _run("umount", str(sandbox.directory))
    subprocess.run(["e2fsck", "-fy", str(backing / "disk")], capture_output=True, check=False)
    if not _plug_in(sandbox, backing):
        raise RuntimeError("cannot mount the disk again")


def _ran(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)


def full_disk(sandbox: Sandbox) -> None:
    """On a full disk nothing changes and reads go on; all works once there is space."""
    with mounted(sandbox, "2m"):
        sandbox.store()
        with Store.open(sandbox.path, platform=PLATFORM) as holder:
            holder.list()  # a running daemon, so that the index of the -wal file exists
            filler = fill(sandbox, 0)
            sandbox.expect_refused(("--source", sandbox.layout(), "sync"), words="is full")
            sandbox.expect_refused(
                ("db", "backup"), ("db", "export", str(sandbox.directory / "export.db")), words="full"
            )
            sandbox.expect_success()
            filler.unlink()
        sandbox.expect_success(("--source", sandbox.layout(), "sync"), ("db", "backup"))
        sandbox.check()


def nearly_full_disk(sandbox: Sandbox) -> None:
    """A disk with a few bytes left fails a write in the middle, at a different place each time."""
    with mounted(sandbox, "2m"):
        for leave in (*range(0, 160_000, 16_384), sandbox.draw.randrange(160_000)):
            sandbox.store()
            filler = fill(sandbox, leave)
            result = run(sandbox.path, "--source", sandbox.layout(), "sync")
            if result.crashed or result.code not in (0, FAILED):
                sandbox.seen.append((Harm.CRASHED, str(result)))
            filler.unlink()
            sandbox.check(1 if result.code == 0 else 4)
            for entry in sandbox.directory.iterdir():
                entry.unlink()


def new_store_on_a_full_disk(sandbox: Sandbox) -> None:
    with mounted(sandbox, "1m"):
        for leave in (0, 4096, 20_480, 61_440):
            filler = fill(sandbox, leave)
            result = run(sandbox.path, "--source", sandbox.layout(), "sync")
            if result.crashed or result.code != FAILED or not is_imagekeep_error(result, "full"):
                sandbox.seen.append((Harm.BROKEN, f"{leave} left: {result}"))
            filler.unlink()
            sandbox.expect_success(("--source", sandbox.layout(), "sync"), ("db", "check"))
            for entry in sandbox.directory.iterdir():
                entry.unlink()


def read_only_disk(sandbox: Sandbox) -> None:
    """On a read-only disk a store is readable if its companions exist, and a copy always."""
    with mounted(sandbox, "2m"):
        sandbox.store()
        copy_store(sandbox.path, sandbox.directory / "export.db")
        writing, *copying = sandbox.writing_commands()
        run(sandbox.path, "images")  # a reader leaves the companions, a writer removes them
        remount(sandbox, "ro")
        sandbox.expect_success(*READING, *copying[1:])
        sandbox.expect_refused(writing)
        remount(sandbox, "rw")
        connect(sandbox.path).close()
        remount(sandbox, "ro")
        sandbox.expect_refused(*READING, writing, words="read")
        sandbox.path = sandbox.directory / "export.db"
        sandbox.expect_success()
        sandbox.expect_refused(("--source", sandbox.layout(), "sync"))
        remount(sandbox, "rw")
        sandbox.expect_success(("--source", sandbox.layout(), "sync"))


def no_space_for_the_backup(sandbox: Sandbox) -> None:
    """A migration that cannot copy the store first changes nothing, and works once there is space."""
    with mounted(sandbox, "1m"):
        sandbox.store(revision=OLD)
        filler = fill(sandbox, 8192)
        sandbox.expect_refused(("db", "migrate"), words="full")
        filler.unlink()
        _require_revision(sandbox, OLD)
        sandbox.expect_success(("db", "migrate"), ("db", "check"))


def no_space_for_the_move(sandbox: Sandbox) -> None:
    """A migration that runs out of space at any moment fails, and works once there is space."""
    with mounted(sandbox, "2m"):
        for leave in (*range(0, 400_000, 40_960), sandbox.draw.randrange(400_000)):
            sandbox.store(revision=OLD)
            rows = rows_of(sandbox.path, OLD)
            filler = fill(sandbox, leave)
            result = run(sandbox.path, "db", "migrate")
            filler.unlink()
            if result.code and (result.code != FAILED or not is_imagekeep_error(result, "full")):
                sandbox.seen.append((Harm.CRASHED, f"{leave} left: {result}"))
            _require_revision(sandbox, OLD if result.code else HEAD)
            if result.code and list(sandbox.directory.glob("*.backup*")):
                sandbox.seen.append((Harm.BROKEN, f"{leave} left: the backup of a failed migration is left"))
            if rows_of(sandbox.path, OLD if result.code else HEAD) != rows:
                sandbox.seen.append((Harm.LOST, f"{leave} left: other rows than before"))
            sandbox.expect_success(("db", "migrate"), ("db", "check"))
            for entry in sandbox.directory.iterdir():
                entry.unlink()


def forbidden_row(sandbox: Sandbox) -> None:
    """A row that the new schema forbids is named and stops the migration, which works once the row is deleted."""
    sandbox.store(revision=OLD)
    with contextlib.closing(sqlite.connect(sandbox.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO configs VALUES (77, x'7b7d')")
    sandbox.expect_refused(
        ("db", "migrate"), words="row 77 of table documents lacks its row of blobs; nothing was changed"
    )
    _require_revision(sandbox, OLD)
    with contextlib.closing(sqlite.connect(sandbox.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM configs WHERE image_key = 77")
    sandbox.expect_success(("db", "migrate"), ("db", "check"))


def rows_of(path: Path, revision: str) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of the first revision's tables in a store of a revision."""
    changed = BEFORE_PLATFORMS if revision >= "0005" else {}
    with contextlib.closing(sqlite.connect(path)) as connection:
        return {
            table: connection.execute(changed.get(table, f'SELECT * FROM "{table}" ORDER BY 1')).fetchall()
            for table in ("images", "configs", "references", "pinned_refs", "ref_cache")
        }


def _require_revision(sandbox: Sandbox, revision: str) -> None:
    """Record if the store has another revision."""
    if (found := read_revision(sandbox.path)) != revision:
        sandbox.seen.append((Harm.BROKEN, f"the store is at revision {found}, not {revision}"))
