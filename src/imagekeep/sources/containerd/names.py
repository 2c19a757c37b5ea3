"""Names as containerd keeps them: any bytes, of which those that are UTF-8 can be an image's reference."""

from __future__ import annotations

import re

from imagekeep.errors import InvalidArgumentError, InvalidReferenceError, printable
from imagekeep.reference import check_name

NAMESPACE_LENGTH_MAX = 76
"""containerd's longest identifier (pkg/identifiers)."""

_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*+")


def check_namespace(namespace: str) -> None:
    """Check that `namespace` can name a namespace (containerd: pkg/identifiers); raises InvalidArgumentError."""
    if len(namespace) > NAMESPACE_LENGTH_MAX or not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgumentError(f"{printable(namespace)} is no namespace of containerd")


def reference_of(name: bytes) -> str | None:
    """Return a record's name, or None where no store can keep it: it is empty, too long or no UTF-8."""
    reference = name.decode("utf-8", "surrogateescape")
    try:
        check_name(reference)
    except InvalidReferenceError:
        return None
    return reference


def name_of(reference: str) -> bytes:
    """Return a reference as a record's name; raises InvalidReferenceError for what cannot be one."""
    check_name(reference)
    return reference.encode()
