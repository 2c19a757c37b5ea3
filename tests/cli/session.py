"""Runs command lines in a directory, and returns what a terminal would show.

`transcript(["imagekeep images"], directory)` is::

    $ imagekeep images
    IMAGE                       TAG                 IMAGE ID            SIZE
    docker.io/library/busybox   1.36                1a9e8c72b711c       1.08MB

so that a document's worked session can be compared with what the program prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROMPT = "$ "

LONGEST = 60
"""Seconds a line may take."""


def transcript(commands: Iterable[str], directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run each line in a shell in `directory`; return the lines with their output, both streams together.

    A command that fails does not stop those after it; its exit code is the shell's `$?` in the next line only if
    that stands in the same line. The store is `images.db` in the directory unless `environment` says otherwise.
    """
    return "".join(f"{PROMPT}{line}\n{run_line(line, directory, environment)}" for line in commands)


def run_line(line: str, directory: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run one line in a shell; return its output, both streams in order."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        env=surroundings(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=LONGEST,
    )
    return done.stdout.decode()


def surroundings(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which `imagekeep` is the one under test, and its store is `images.db`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "IMAGEKEEP_STORE": "images.db",
        "COLUMNS": "100",
        **(environment or {}),
    }


def commands_in(document: str) -> list[str]:
    """Return the command lines of a transcript."""
    return [line.removeprefix(PROMPT) for line in document.splitlines() if line.startswith(PROMPT)]
