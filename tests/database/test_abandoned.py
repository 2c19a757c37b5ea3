"""What copies leave that are killed before they are whole, and who takes it away."""

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
backup.sync_directory = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
os.link = backup.sync_directory if sys.argv[3] == "before" else os.link
backup.copy_store(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def die_while_copying(path: Path, destination: Path, when: str = "before") -> None:
    """Let a process be killed before, or just after, its copy gets its name."""
    subprocess.run([sys.executable, "-c", DIE_WHILE_COPYING, str(path), str(destination), when], check=False)


def partials(directory: Path) -> list[str]:
    """Return the names of what is left of copies in a directory."""
    return sorted(entry.name for entry in directory.iterdir() if ".partial-" in entry.name)


def test_a_killed_copy_has_no_name_and_is_its_owners_alone(store_path: Path, tmp_path: Path) -> None:
    die_while_copying(store_path, tmp_path / "copy.db")

    (left,) = partials(tmp_path)
    assert (tmp_path / left).stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "copy.db").exists()


def test_the_same_copy_takes_away_what_a_killed_one_left(store_path: Path, tmp_path: Path) -> None:
    die_while_copying(store_path, tmp_path / "copy.db")

    copy_store(store_path, tmp_path / "copy.db")

    assert not partials(tmp_path)


def test_the_next_backup_takes_away_what_a_killed_one_left(store_path: Path, tmp_path: Path) -> None:
    die_while_copying(store_path, backup_path(store_path, "0001"))
    (left,) = partials(tmp_path)
    (tmp_path / f"{left}-journal").touch()

    copy_store(store_path, backup_path(store_path, HEAD))

    assert not partials(tmp_path)


def test_a_copy_that_was_killed_after_it_had_its_name_is_whole(store_path: Path, tmp_path: Path) -> None:
    copy_store(store_path, tmp_path / "expected.db")
    first = backup_path(store_path, "0001")
    die_while_copying(store_path, first, "after")

    copy_store(store_path, backup_path(store_path, HEAD))

    assert not partials(tmp_path)
    assert first.read_bytes() == (tmp_path / "expected.db").read_bytes()


def test_a_copy_that_is_being_made_is_left_alone(store_path: Path, tmp_path: Path) -> None:
    alive = tmp_path / "copy.db.partial-1"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        copy_store(store_path, tmp_path / "copy.db")

    assert alive.exists()


@pytest.mark.parametrize(
    "name", ["copy.db.partial", "copy.db.partial-one", "other.db.partial-1", "copy.db.partial-1.txt"]
)
def test_what_is_no_partial_copy_of_this_name_is_left_alone(
    store_path: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).touch()

    copy_store(store_path, tmp_path / "copy.db")

    assert (tmp_path / name).exists()


def test_a_directory_or_a_link_with_such_a_name_is_left_alone(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db.partial-1").mkdir()
    (tmp_path / "copy.db.partial-2").symlink_to(store_path)

    copy_store(store_path, tmp_path / "copy.db")

    assert partials(tmp_path) == ["copy.db.partial-1", "copy.db.partial-2"]
    assert store_path.exists()


def test_a_partial_of_this_process_number_is_no_hindrance(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / f"copy.db.partial-{os.getpid()}").touch()

    copy_store(store_path, tmp_path / "copy.db")

    assert (tmp_path / "copy.db").exists()
