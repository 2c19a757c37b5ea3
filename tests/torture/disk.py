"""A model of a disk whose power is cut: it keeps what was synced, and any part of the rest.

It replays the calls that `recorder.c` recorded, and returns a state in which a power cut may leave the directory:

- a file's bytes are kept once a sync of the file has returned; of later writes and truncations, each 512-byte
  sector is kept or lost, independently of the others and of their order;
- a name is created, moved or deleted once a sync of its directory has returned; until then it may or may not be,
  independently of the file's bytes and of other names.

ext4 and XFS promise more; POSIX promises this. A disk that lies about syncing and decaying bits are not modelled.
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
    """A recorded call; recorder.c lists the kinds."""

    kind: str
    file: int
    offset: int
    name: str
    second: str
    content: bytes


def read_calls(log: Path) -> Iterator[Call]:
    """Yield the calls in a log."""
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
    """A file's synced bytes, and the calls since."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        """Apply every waiting call."""
        for call in self.waiting:
            _change(self.synced, call)
        self.waiting.clear()

    def after_a_cut(self, draw: random.Random, share: float) -> bytes:
        """Return bytes that may be left, if about this share of the waiting sectors is kept."""
        content = bytearray(self.synced)
        for call in self.waiting:
            for part in _sectors(call):
                if draw.random() < share:
                    _change(content, part)
        return bytes(content)


def _change(content: bytearray, call: Call) -> None:
    if call.kind == "T":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.content)] = call.content


def _sectors(call: Call) -> Iterator[Call]:
    """Yield the parts of a call that reach the disk independently."""
    if call.kind == "T":
        yield call
        return
    start, end = call.offset, call.offset + len(call.content)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield call._replace(offset=start, content=call.content[start - call.offset : stop - call.offset])
        start = stop


class Disk:
    """A directory on a disk, initially with these synced files."""

    def __init__(self, before: Mapping[str, bytes]) -> None:
        self._files: dict[int, File] = {}
        self._names: dict[str, int] = {}
        self._waiting: list[Call] = []
        for number, (name, content) in enumerate(before.items()):
            self._names[name] = -1 - number
            self._files[-1 - number] = File(bytearray(content))

    def take(self, call: Call) -> None:
        """Replay the next call."""
        if call.kind in "WT":
            self._files[call.file].waiting.append(call)
        elif call.kind == "S":
            self._files[call.file].sync()
        elif call.kind == "D":
            for change in self._waiting:
                _rename(self._names, change)
            self._waiting.clear()
        elif call.kind == "O":
            # It existed before the first call, so far known only by name.
            self._files[call.file] = self._files[self._names[call.name]]
            self._names[call.name] = call.file
        else:
            if call.kind == "C":
                self._files[call.file] = File()
            self._waiting.append(call)

    def file(self, name: str) -> bytes:
        """Return a file as a process sees it now; empty if there is none."""
        return self.files().get(name, b"")

    def files(self) -> dict[str, bytes]:
        """Return every file by name, as a process sees it now."""
        names = dict(self._names)
        for change in self._waiting:
            _rename(names, change)
        return {name: self._files[number].after_a_cut(random.Random(0), 1) for name, number in names.items()}

    def cut(self, draw: random.Random, share: float, directory: Path) -> None:
        """Write to `directory` what a cut may leave, if about this share of what waits is kept."""
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
    """Apply a call to a directory's names; without effect if the call before it was lost."""
    if call.kind == "C":
        names[call.name] = call.file
    elif call.kind == "U":
        names.pop(call.name, None)
    elif call.name in names:
        names[call.second] = names[call.name]
        if call.kind == "R":
            del names[call.name]
