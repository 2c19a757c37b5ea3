"""The user of an image as the CRI reports it: a number or a name."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?P<sign>[+-]?)0*(?P<digits>[0-9]{1,19})")


def split_user(user: str) -> tuple[int | None, str]:
    """Return the uid and the user name that a config's User stands for: one of them, or neither.

    A group after a colon is left out; anything but a 64-bit number is a name (containerd:
    internal/cri/server/images, getUserFromImage).
    """
    name = user.partition(":")[0]
    # Python's int() also takes spaces, underscores and other scripts' digits, and refuses very long texts.
    if match := _NUMBER.fullmatch(name):
        uid = int(f"{match['sign']}{match['digits']}")
        if -(2**63) <= uid < 2**63:
            return uid, ""
    return None, name
