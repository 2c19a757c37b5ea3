"""Files that only their owner may use: a config's environment may hold secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODE = 0o600


def create_private(path: Path | str) -> int:
    """Make a file of mode 0600, whatever the umask takes away, and return its descriptor, open to read and write.

    Raises FileExistsError where there is anything of that name, and as `os.open` does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    os.fchmod(descriptor, MODE)
    return descriptor
