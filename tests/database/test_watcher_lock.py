"""The watcher lock, which the kernel drops with the watcher's process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.lock import ALL_REFERENCES, WRITERS, WatcherLock, is_watched, locked
from imagekeep.errors import AlreadyWatchedError, PermissionDeniedError
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from imagekeep.database.lock import WatcherLock
WatcherLock(Path(sys.argv[1])).take()
print("held", flush=True)
sys.stdin.read()
"""

FORK = """
import os, sys
from pathlib import Path
from imagekeep.database.lock import WatcherLock
WatcherLock(Path(sys.argv[1])).take()
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()  # outlives its parent, which is killed
    os._exit(0)
sys.stdin.read()
"""

ASK = """
import sys
from pathlib import Path
from imagekeep.database.lock import is_watched
print(is_watched(Path(sys.argv[1])))
"""


@contextmanager
def watcher_lock(path: Path) -> Iterator[WatcherLock]:
    lock = WatcherLock(path)
    lock.take()
    try:
        yield lock
    finally:
        lock.release()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.db"


def started(script: str, path: Path) -> subprocess.Popen[str]:
    """Run a script until it prints its first line."""
    command = [sys.executable, "-c", script, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    with started(HOLD, path) as process:
        yield process
        process.kill()


def test_a_store_without_a_lock_file_is_not_watched(path: Path) -> None:
    assert not is_watched(path)
    assert not path.with_name("images.db-lock").exists()


@pytest.mark.usefixtures("holder")
def test_a_second_watcher_is_refused(path: Path) -> None:
    with pytest.raises(AlreadyWatchedError), watcher_lock(path):
        pass


def test_a_killed_watcher_holds_no_lock(path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_watched(path)
    holder.kill()
    holder.wait()
    assert not is_watched(path)
    with watcher_lock(path):
        assert is_watched(path)
    assert not is_watched(path)


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_watcher(path: Path) -> None:
    with started(FORK, path) as process:
        assert is_watched(path)
        process.kill()
        process.wait()
        with watcher_lock(path):
            pass


@pytest.mark.usefixtures("holder")
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_watcher_is_detected_from_another_pid_namespace(path: Path) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ASK, str(path)]
    assert subprocess.check_output(command, text=True) == "True\n"


@pytest.mark.usefixtures("holder")
def test_a_watcher_does_not_block_writers(path: Path) -> None:
    with locked(path, [WRITERS, ALL_REFERENCES], 0):
        pass


def test_writers_do_not_count_as_watchers(path: Path) -> None:
    with locked(path, [WRITERS, ALL_REFERENCES], 0):
        assert not is_watched(path)


def test_an_unreadable_lock_file_is_an_error(path: Path) -> None:
    with watcher_lock(path), without_privileges(), pytest.raises(PermissionDeniedError, match="lock file"):
        is_watched(path)


def test_the_lock_can_be_taken_again_on_a_new_lock_file(path: Path) -> None:
    with watcher_lock(path) as first:
        first.take()
        path.with_name("images.db-lock").unlink()
        assert not is_watched(path)
        first.take()
        assert is_watched(path)
        path.with_name("images.db-lock").unlink()
        with watcher_lock(path), pytest.raises(AlreadyWatchedError):
            first.take()
    assert not is_watched(path)
