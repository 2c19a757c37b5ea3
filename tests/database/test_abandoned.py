"""What killed copies leave behind, and how it is removed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.backup import backup_path, copy_store
from imagekeep.database.revision import HEAD

if TYPE_CHECKING:
    from pathlib import Path

DIE_WHILE_COPYING = """
import os, signal, sys
from pathlib import Path
from imagekeep.database import backup
rename = backup._rename_exclusively
def die(*arguments):
    if sys.argv[3] == "after":
        rename(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
backup._rename_exclusively = die
backup.copy_store(Path(sys.argv[1]), Path(sys.argv[2]))
"""

NAME = ".imagekeep-copy-0123456789abcdef"


def die_while_copying(path: Path, destination: Path, when: str = "before") -> None:
    """Kill a process just before or after its copy gets its name."""
    subprocess.run([sys.executable, "-c", DIE_WHILE_COPYING, str(path), str(destination), when], check=False)


def partials(directory: Path) -> list[str]:
    """Return the names that copies left in a directory."""
    return sorted(entry.name for entry in directory.iterdir() if entry.name.startswith(".imagekeep-copy-"))


def test_a_killed_copy_has_no_name_and_is_private(store_path: Path, tmp_path: Path) -> None:
    die_while_copying(store_path, tmp_path / "copy.db")

    (left,) = partials(tmp_path)
    assert (tmp_path / left).stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / left).iterdir()} == {0o600}
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_next_copy_into_a_directory_removes_what_a_killed_one_left(
    store_path: Path, tmp_path: Path, when: str
) -> None:
    die_while_copying(store_path, backup_path(store_path, "0001"), when)
    assert partials(tmp_path)

    copy_store(store_path, tmp_path / "copy.db")

    assert not partials(tmp_path)


def test_a_copy_killed_after_getting_its_name_is_complete(store_path: Path, tmp_path: Path) -> None:
    copy_store(store_path, tmp_path / "expected.db")
    first = backup_path(store_path, "0001")
    die_while_copying(store_path, first, "after")

    copy_store(store_path, backup_path(store_path, HEAD))

    assert first.read_bytes() == (tmp_path / "expected.db").read_bytes()


def test_a_copy_in_progress_is_left_alone(store_path: Path, tmp_path: Path) -> None:
    alive = tmp_path / NAME
    alive.mkdir()
    descriptor = os.open(alive, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        copy_store(store_path, tmp_path / "copy.db")
    finally:
        os.close(descriptor)

    assert alive.exists()


@pytest.mark.parametrize("name", [".imagekeep-copy-", f"{NAME}0", NAME[:-1], f"{NAME[:-1]}g", f"x{NAME}"])
def test_a_directory_of_another_name_is_left_alone(store_path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    copy_store(store_path, tmp_path / "copy.db")

    assert (tmp_path / name).exists()


def test_a_file_or_a_link_with_such_a_name_is_left_alone(store_path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / NAME).symlink_to(elsewhere)
    (tmp_path / f"{NAME[:-1]}e").touch()

    copy_store(store_path, tmp_path / "copy.db")

    assert len(partials(tmp_path)) == 2
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_a_directory_of_another_user_is_left_alone(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    os.chown(tmp_path / NAME, 65534, 65534)

    copy_store(store_path, tmp_path / "copy.db")

    assert partials(tmp_path) == [NAME]
