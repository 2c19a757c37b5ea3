"""A kernel that refuses system calls, as the file systems do that lack what the calls ask for."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

NUMBERS = {
    "x86_64": {"link": 86, "linkat": 265, "renameat2": 316, "fchmod": 91, "fcntl": 72},
    "aarch64": {"linkat": 37, "renameat2": 276, "fchmod": 52, "fcntl": 25},
}.get(platform.machine(), {})
"""The calls that a test can have refused on this machine, by the kernel's numbers."""

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(**calls: int) -> None:
    """Let these system calls fail, each with its error number, for the rest of this process's life."""
    steps = [(_LOAD, 0, 0, 0)]
    for name, error in calls.items():
        if name in NUMBERS:
            steps += [(_JUMP_IF_EQUAL, 0, 1, NUMBERS[name]), (_RETURN, 0, 0, _FAIL | error)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = _Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


def without_exclusive_renames() -> None:
    """Refuse renames that keep what is there, as NFS does."""
    refuse(renameat2=errno.EINVAL)


def without_hard_links() -> None:
    """Refuse hard links, as SMB, exFAT and many FUSE file systems do."""
    refuse(link=errno.EPERM, linkat=errno.EPERM)


def without_links_or_exclusive_renames() -> None:
    """Refuse hard links, and renames that keep what is there, as old FUSE file systems do."""
    refuse(link=errno.EPERM, linkat=errno.EPERM, renameat2=errno.EINVAL)


def without_links_or_modes() -> None:
    """Refuse hard links, exclusive renames and changes of a mode, as exFAT does."""
    refuse(link=errno.EPERM, linkat=errno.EPERM, renameat2=errno.EINVAL, fchmod=errno.EPERM)
