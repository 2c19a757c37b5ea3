"""Bounds what an answer of containerd costs to decode, which its bytes alone do not.

An empty submessage is two bytes on the wire and about sixty decoded, so an answer of 32 MiB could take a gigabyte.
The submessages are counted on the wire, before the answer is decoded. Only large answers are counted: it takes a
second for a million fields, so these are limited too. What is not well formed is left to the decoder, which
refuses it.
"""

from __future__ import annotations

from typing import Any, Final

MESSAGES_MAX: Final = 400_000
"""The most messages within an answer: 100,000 records, each with its target and two labels."""

FIELDS_MAX: Final = 3_000_000
"""The most fields within an answer, known or unknown: 100,000 such records have half as many."""

COUNTED_FROM: Final = 1 << 20
"""Bytes from which an answer is counted: a smaller one decodes to 32 MiB at most."""

_VARINT_BITS_MAX: Final = 70
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}


def is_within_budget(encoded: bytes, kind: Any) -> bool:
    """Return whether a message of the kind that this descriptor describes has few enough messages and fields."""
    if len(encoded) < COUNTED_FROM:
        return True
    try:
        _Count().walk(encoded, 0, len(encoded), kind)
    except _ExceededError:
        return False
    return True


class _ExceededError(Exception):
    """Raised for more messages or fields than there may be."""


class _Count:
    """Counts what is in a message."""

    def __init__(self) -> None:
        self._messages = self._fields = 0

    def walk(self, encoded: bytes, at: int, end: int, kind: Any) -> None:
        """Count what is in encoded[at:end], a message of this kind; raises _ExceededError."""
        within = {field.number: field.message_type for field in kind.fields if field.message_type}
        while at < end:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise _ExceededError
            tag, at = _varint(encoded, at, end)
            wire_type = tag & 7
            if wire_type == _LENGTH:
                length, at = _varint(encoded, at, end)
                if (inner := within.get(tag >> 3)) is not None:
                    self._messages += 1
                    if self._messages > MESSAGES_MAX:
                        raise _ExceededError
                    self.walk(encoded, at, min(at + length, end), inner)
                at += length
            elif wire_type == _VARINT:
                _, at = _varint(encoded, at, end)
            else:  # a group's marks have no content of their own: its fields count as those around it
                at += _FIXED_SIZES.get(wire_type, 0)


def _varint(encoded: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a variable-length number and where it ends, which is `end` if it is cut short or too long."""
    value = shift = 0
    while at < end and shift < _VARINT_BITS_MAX:
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, end
