"""A disk whose power is cut: what was synced is on it, and of the rest any part may be.

It is fed the calls that `recorder.c` wrote down, in their order, and gives the state of a directory as it may be
found after a cut at that point:

- the bytes of a file are there once a sync of the file has returned; of what was written or truncated since,
  each sector of 512 bytes is there or is not, independently of the others and of the order;
- a name is there, moved or gone once a sync of its directory has returned; until then it is so or is not,
  independently of the file's bytes and of other names.

That is less than ext4 or XFS promise, and what POSIX does. Not modelled: a disk that says it has synced and has
not, and bits that rot.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECTOR = 512
_HEAD = struct.Struct("=cQQQ")
_LENGTH = struct.Struct("=I")


class Call(NamedTuple):
    """One call that a recorder wrote down; see recorder.c for the kinds."""

    kind: str
    file: int
    offset: int
    name: str
    second: str
    content: bytes


def read_calls(log: Path) -> Iterator[Call]:
    """Give the calls in a log."""
    record, at = log.read_bytes(), 0

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return record[at - length : at]

    while at < len(record):
        kind, file, offset, length = _HEAD.unpack(take(_HEAD.size))
        names = [take(*_LENGTH.unpack(take(_LENGTH.size))).decode() for _ in range(2)]
        content = take(length) if kind == b"W" else b""
        yield Call(kind.decode(), file, offset, names[0], names[1], content)


@dataclass(slots=True)
class File:
    """A file's bytes that are synced, and the calls that are not."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        """Let everything be on the disk."""
        for call in self.waiting:
            _change(self.synced, call)
        self.waiting.clear()

    def after_a_cut(self, draw: random.Random, share: float) -> bytes:
        """Return what may be there, when of what waits about this share is."""
        content = bytearray(self.synced)
        for call in self.waiting:
            for part in _sectors(call):
                if draw.random() < share:
                    _change(content, part)
        return bytes(content)


def _change(content: bytearray, call: Call) -> None:
    """Do to a file's bytes what a call did."""
    if call.kind == "T":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.content)] = call.content


def _sectors(call: Call) -> Iterator[Call]:
    """Give the parts of a call that reach the disk by themselves."""
    if call.kind == "T":
        yield call
        return
    start, end = call.offset, call.offset + len(call.content)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield call._replace(offset=start, content=call.content[start - call.offset : stop - call.offset])
        start = stop


class Disk:
    """A directory on a disk, which begins with these files by name, all of them synced."""

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self._files: dict[int, File] = {}
        self._names: dict[str, int] = {}
        self._waiting: list[Call] = []
        for number, (name, content) in enumerate(before.items()):
            self._names[name] = -1 - number
            self._files[-1 - number] = File(bytearray(content))

    def take(self, call: Call) -> None:
        """Take in the next call."""
        if call.kind in "WT":
            self._files[call.file].waiting.append(call)
        elif call.kind == "S":
            self._files[call.file].sync()
        elif call.kind == "D":
            for change in self._waiting:
                _rename(self._names, change)
            self._waiting.clear()
        elif call.kind == "O":
            # Known by its name only until now: it was there before the first call.
            self._files[call.file] = self._files[self._names[call.name]]
            self._names[call.name] = call.file
        else:
            if call.kind == "C":
                self._files[call.file] = File()
            self._waiting.append(call)

    def file(self, name: str) -> bytes:
        """Return a file as a process sees it now; empty where there is none."""
        return self.files().get(name, b"")

    def files(self) -> dict[str, bytes]:
        """Return every file by its name, as a process sees it now."""
        names = dict(self._names)
        for change in self._waiting:
            _rename(names, change)
        return {name: self._files[number].after_a_cut(random.Random(0), 1) for name, number in names.items()}

    def cut(self, draw: random.Random, share: float, directory: Path) -> None:
        """Write into `directory` what may be found after a cut, when of what waits about this share is there."""
        names = dict(self._names)
        for change in self._waiting:
            if draw.random() < share:
                _rename(names, change)
        for name, number in names.items():
            path = directory / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(self._files[number].after_a_cut(draw, share))
            path.chmod(0o600)


def _rename(names: dict[str, int], call: Call) -> None:
    """Do to a directory's names what a call did; one whose part before was lost does nothing."""
    if call.kind == "C":
        names[call.name] = call.file
    elif call.kind == "U":
        names.pop(call.name, None)
    elif call.name in names:
        names[call.second] = names[call.name]
        if call.kind == "R":
            del names[call.name]
