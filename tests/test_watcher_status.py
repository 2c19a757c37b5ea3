"""Whether a watcher is still at work, by what it wrote in the store."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from imagekeep.watcher_status import WatcherState, is_running


def test_a_watcher_whose_process_is_there_is_running() -> None:
    assert is_running(WatcherState(os.getpid(), "containerd", 1))


def test_a_watcher_that_said_it_ended_is_not_running() -> None:
    assert not is_running(WatcherState(os.getpid(), "containerd", 1, stopped_at=2))


def test_a_watcher_whose_process_was_killed_is_not_running() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert not is_running(WatcherState(process.pid, "containerd", 1))


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63 - 1])
def test_what_is_no_number_of_a_process_is_not_running(number: int) -> None:
    assert not is_running(WatcherState(number, "containerd", 1))
