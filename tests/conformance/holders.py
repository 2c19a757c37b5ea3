"""Holders of the store during a trace: one open store, a store reopened for each step, or two processes in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from imagekeep import Store
from tests.worker import PLATFORM, Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Answer = TypeVar("Answer")

MODES = ("kept open", "reopened", "two processes")


class Holder(Protocol):
    """Holds a store and performs operations on it."""

    mode: str

    def open(self, path: Path) -> None:
        """Open the store at `path`."""
        ...

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Return what a function answers for the store and these arguments."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


class KeptOpen:
    """Holds one store in this process."""

    mode = MODES[0]
    store: Store | None = None

    def open(self, path: Path) -> None:
        self.close()
        self.store = Store.open(path, platform=PLATFORM)

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        return function(self.store, *arguments)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


class Reopened(KeptOpen):
    """Reopens the store for each operation."""

    mode = MODES[1]
    path: Path

    def open(self, path: Path) -> None:
        self.path = path

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        super().open(self.path)
        return super().ask(function, *arguments)


class TwoProcesses:
    """Holds a store in this process and one in another, which take turns."""

    mode = MODES[2]

    def __init__(self, worker: Worker) -> None:
        self.here = KeptOpen()
        self.there = worker
        self.turns = 0

    def open(self, path: Path) -> None:
        self.here.open(path)
        self.there.open(path)

    def ask(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        self.turns += 1
        holder = self.there if self.turns % 2 else self.here
        return holder.ask(function, *arguments)

    def close(self) -> None:
        self.here.close()
