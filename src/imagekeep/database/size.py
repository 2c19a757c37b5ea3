"""How much disk a store takes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def size_on_disk(path: Path) -> int:
    """Return the bytes of the store at `path`, what is not yet moved from its -wal file included."""
    size = 0
    for file in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(FileNotFoundError):  # who closes the store last removes its -wal file
            size += file.stat().st_size
    return size
