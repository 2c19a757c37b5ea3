"""Keeps a daemon's memory small; leaves it as it is where the C library is not glibc."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_M_ARENA_MAX: Final = -8
"""mallopt(3), malloc.h."""

_NEW_OBJECTS_MAX: Final = 700
"""Python's default: new objects before garbage is looked for."""


def keep_small() -> None:
    """Let all threads allocate from one arena, and collect garbage often.

    Each further arena keeps a megabyte, and Python runs one thread at a time. Call it before threads are started.
    """
    gc.set_threshold(_NEW_OBJECTS_MAX)
    _call_libc(lambda libc: libc.mallopt(_M_ARENA_MAX, 1))


def trim() -> None:
    """Return freed memory to the system (malloc_trim(3)); takes a millisecond."""
    _call_libc(lambda libc: libc.malloc_trim(0))


def _call_libc(call: Callable[[Any], object]) -> None:
    # ImportError and MemoryError: a hardened system can forbid what ctypes does when it is imported.
    with contextlib.suppress(AttributeError, ImportError, MemoryError, OSError):
        import ctypes

        call(ctypes.CDLL(None))
