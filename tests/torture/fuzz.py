"""Random names, documents and bytes of a hostile image source, close to real ones."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
SECRET = "hunter2-the-canary"
"""A value in every config's environment and labels; printed only if the config is requested."""

PIECES = (
    *("busybox", "docker.io/library/busybox:1.36", "localhost:5000/", "k8s.gcr.io", "a", "A", "é", "💣", "_"),
    *("-", ".", ":", "@", "/", "//", "..", "../../etc/passwd", "", " ", "\t", "\n", "\r\n", "\0"),
    *("\x1b[31m", "\x1b]0;x\x07", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ud800", "\udcff"),
    *("\u0130", "\u212a", "\u017f", "%s", "{0}", "%", "sha256:", "sha256:" + "0" * 64, "sha512:" + "a" * 128),
    *("sha384:", "0" * 64, "f" * 12, "sha256:" + "g" * 64, "'; DROP TABLE images;--", '"', "\\"),
    *("=cmd|' /C calc'!A0", "linux/amd64", "linux/arm64/v8", "windows(10.0.17763)", "2024-01-01T00:00:00Z"),
    *("1:1", "1000", "-1", "99999999999999999999", "null", "true", "oci:", "archive:-", "*", "?"),
    *("x" * 255, "y" * 5000, "١٢٣"),
)

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1.5, 1e308),
    *([], {}, [[]], [{}], {"": None}, "", "\0", "\ud800", "\x1b[2J", "a" * 5000),
    *("sha256:" + "0" * 64, {"digest": "sha256:" + "0" * 64}, [None] * 50),
)


def word(draw: random.Random) -> str:
    """Return joined pieces of names, some of them truncated."""
    pieces = draw.choices(PIECES, k=draw.randrange(1, 6))
    cut = [piece[: draw.randrange(len(piece) + 1)] if draw.random() < 0.2 else piece for piece in pieces]
    return "".join(cut)


def mutated(draw: random.Random, document: Any, changes: int | None = None) -> Any:
    """Return a copy of a document with a few values replaced, added, doubled, renamed or removed."""
    changed = [copy.deepcopy(document)]
    for _ in range(draw.choice((0, 1, 1, 2, 5)) if changes is None else changes):
        holder, key = draw.choice(list(_places(changed)))
        kind = draw.randrange(5)
        if kind == 0:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
        elif kind == 1:
            holder[key] = word(draw)
        elif kind == 2 and isinstance(holder, dict):
            holder[draw.choice((key.upper(), key.lower(), word(draw)))] = copy.deepcopy(holder[key])
        elif kind == 3 and isinstance(holder, list):
            holder.extend(copy.deepcopy(holder[key]) for _ in range(draw.choice((1, 3, 50))))
        elif kind == 4 and holder is not changed:
            del holder[key]
    return changed[0]


def _places(value: Any) -> Any:
    """Yield every place in a document as its container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def encoded(draw: random.Random, document: Any) -> bytes:
    """Return a document as JSON, sometimes with invalid bytes, duplicate keys, or trailing data."""
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    content = bytearray(text.encode(errors="surrogatepass"))
    kind = draw.randrange(12)
    if kind == 0 and content:
        content[draw.randrange(len(content))] = draw.randrange(256)
    elif kind == 1:
        content += draw.choice((b"x", b"{}", b" \n", b"\0"))
    elif kind == 2 and content[:1] == b"{" and len(content) > 2:
        content[1:1] = content[1:-1] + b","
    elif kind == 3:
        del content[draw.randrange(len(content) + 1) :]
    return bytes(content)


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Return bytes with parts changed, removed, doubled or replaced."""
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 6)):
        at, length = draw.randrange(len(changed) + 1), draw.choice((1, 1, 8, 512))
        part = slice(at, at + length)
        kind = draw.randrange(4)
        if kind == 0:
            changed[part] = draw.randbytes(length)
        elif kind == 1:
            del changed[part]
        elif kind == 2:
            changed[at:at] = changed[part]
        else:
            changed[at : at + 1] = draw.choice((b"\0", b"\xff", b"7", b"-"))
    return bytes(changed)
