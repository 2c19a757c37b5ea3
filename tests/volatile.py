"""A directory in memory where there is one: what is written there is synced in no time, so nothing is weakened."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED_MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def volatile_directory() -> Iterator[Path]:
    """Give a directory in memory, or an ordinary one, that is removed at the end."""
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="imagekeep-", dir=place) as directory:
        yield Path(directory)
