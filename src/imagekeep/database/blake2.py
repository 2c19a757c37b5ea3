"""BLAKE2b without hashlib, which loads OpenSSL: a tenth of the time of a command that only reads."""

from __future__ import annotations

__all__ = ["blake2b"]

try:
    from _blake2 import blake2b
except ImportError:  # a Python that was built without it
    from hashlib import blake2b
