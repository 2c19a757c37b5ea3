"""Memory of a daemon goes back to the system."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import re
import threading
from pathlib import Path
from imagekeep.allocator import keep_small, trim

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

keep_small()
held = [bytes(2000) for _ in range(20_000)]
last = bytes(2000)  # without it, free() would return the memory
del held
before = resident()
trim()
print(before - resident())
"""


def test_freed_memory_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30_000  # of 40,000 KB


def test_system_without_these_calls_is_left_as_it_is() -> None:
    without = "import ctypes; ctypes.CDLL = lambda _: object()"
    program = f"{without}; import imagekeep.allocator as allocator; allocator.keep_small(); allocator.trim()"
    subprocess.run([sys.executable, "-c", program], check=True)
