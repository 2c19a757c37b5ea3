"""Converts between containerd's names, which may be any bytes, and references, which are UTF-8."""

from __future__ import annotations

import re

from imagekeep.errors import InvalidArgumentError, InvalidReferenceError, printable
from imagekeep.reference import check_name

IDENTIFIER_LENGTH_MAX = 76
"""containerd's longest identifier (pkg/identifiers)."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*+")


def check_namespace(namespace: str) -> None:
    """Raise InvalidArgumentError unless this is a valid namespace (containerd: pkg/identifiers)."""
    if not is_identifier(namespace):
        raise InvalidArgumentError(f"invalid containerd namespace {printable(namespace)}")


def is_identifier(text: str) -> bool:
    """Return whether this can be the name of a namespace, a container or a snapshotter."""
    return len(text) <= IDENTIFIER_LENGTH_MAX and _IDENTIFIER.fullmatch(text) is not None


def reference_of(name: bytes) -> str | None:
    """Return a record's name, or None if no store can keep it: empty, too long or not UTF-8."""
    reference = name.decode("utf-8", "surrogateescape")
    try:
        check_name(reference)
    except InvalidReferenceError:
        return None
    return reference


def name_of(reference: str) -> bytes:
    """Return a reference as a record's name; raises InvalidReferenceError."""
    check_name(reference)
    return reference.encode()
