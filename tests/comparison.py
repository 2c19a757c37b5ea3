"""Runs the same operations on real stores and on the model, finds where they differ, and shrinks what led there."""

from __future__ import annotations

import contextlib
import shutil
from random import Random
from typing import TYPE_CHECKING, NamedTuple, Self

from imagekeep import Image, ObservedImage, Store
from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from tests.model import IMAGES, PLATFORM, Model, Operation, Operations, everything, perform
from tests.volatile import volatile_directory
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tests.model import Answer

    Opener = Callable[[Path], Store]


class Mismatch(NamedTuple):
    """Where the store and the model first differ: after which operation, and what each says."""

    number: int
    operation: Operation
    store: object
    model: object


MARKS = ("reopen", "turn")
"""What stands between the operations: close and open again; another process has its turn."""


def random_operations(
    seed: int, number: int, *, reopen_every: int = 0, processes: int = 1
) -> Iterator[Operation]:
    """Give so many random operations, and the marks between them; the same ones for the same arguments."""
    random = Random(seed)
    operations = Operations(random)
    for drawn in range(1, number + 1):
        if reopen_every and drawn % reopen_every == 0:
            yield ("reopen",)
        if processes > 1:
            yield ("turn", random.randrange(processes))
        yield operations.draw()


def open_store(path: Path) -> Store:
    """Open the store at `path` as the model has it."""
    return Store.open(path, platform=PLATFORM)


class Stores:
    """Stores on one file, one in each process; one of them has its turn."""

    def __init__(self, path: Path, processes: int = 1, opener: Opener = open_store) -> None:
        self.path = path
        self.opener = opener
        self.store = opener(path)
        self.others = [Worker() for _ in range(processes - 1)]
        for other in self.others:
            other.open(path)
        self.turn = 0

    def perform(self, operation: Operation) -> Answer:
        """Do an operation where the turn is."""
        match operation:
            case ("turn", turn):
                self.turn = turn % (len(self.others) + 1)
            case ("reopen",):
                self.reopen()
            case _ if self.turn:
                return self.others[self.turn - 1].ask(perform, operation)
            case _:
                return perform(self.store, operation)
        return "ok", None

    def reopen(self) -> None:
        """Close the store that has its turn, and open it again."""
        if self.turn:
            self.others[self.turn - 1].open(self.path)
        else:
            self.store.close()
            self.store = self.opener(self.path)

    def problems(self) -> list[str]:
        """Return every invariant that the file breaks."""
        with contextlib.closing(connect(self.path, read_only=True)) as connection:
            return [str(problem) for problem in find_problems(connection)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        for other in self.others:
            other.close()


def first_mismatch(stores: Stores, operations: Iterable[Operation], compare_every: int) -> Mismatch | None:
    """Run operations on empty stores and on a new model; return where they first differ, or None.

    Every answer is compared, all that they say after every `compare_every` operations and at the end, and the
    file's invariants at the end.
    """
    model = Model()
    number, operation = -1, Operation()
    for number, operation in enumerate(operations):
        answer = stores.perform(operation)
        if operation[0] in MARKS:
            continue
        if answer != (expected := perform(model, operation)):
            return Mismatch(number, operation, answer, expected)
        if number % compare_every == 0 and (said := everything(stores.store)) != everything(model):
            return Mismatch(number, operation, said, everything(model))
    if (said := everything(stores.store)) != everything(model):
        return Mismatch(number, operation, said, everything(model))
    broken = stores.problems()
    return Mismatch(number, operation, broken, []) if broken else None


@contextlib.contextmanager
def fresh_stores(template: Path, processes: int = 1, opener: Opener = open_store) -> Iterator[Stores]:
    """Give stores on a copy of an empty store's file, in memory where there is such a place."""
    with volatile_directory() as directory:
        path = directory / "images.db"
        shutil.copy(template, path)
        with Stores(path, processes, opener) as stores:
            yield stores


def shrink(
    operations: Sequence[Operation], fails: Callable[[Sequence[Operation]], bool]
) -> Sequence[Operation]:
    """Return a part of a sequence that still fails, of which no single operation can be left out.

    What came last is tried alone first, then ever smaller runs are left out (delta debugging).
    """
    length = 16
    while length < len(operations) and not fails(operations[-length:]):
        length *= 4
    kept, size = operations[-length:], length
    while size:
        before, start = len(kept), 0
        while start < len(kept):
            shorter = [*kept[:start], *kept[start + size :]]
            if fails(shorter):
                kept = shorter
            else:
                start += size
        size = size // 2 if size > 1 or len(kept) == before else 1
    return kept


def in_words(operation: Operation) -> str:
    """Return an operation on one line, its images by their number."""
    verb, *arguments = operation
    return f"{verb} {', '.join(map(_word, arguments))}"


def _word(argument: object) -> str:
    """Return an argument as a person can read it."""
    match argument:
        case ObservedImage() | Image():
            number = next(n for n, image in enumerate(IMAGES) if image.id == argument.id)
            pinned = ", pinned" if argument.pinned else ""
            named = f" named {list(argument.references)}" if isinstance(argument, Image) else ""
            return f"<image {number}{named}, size {argument.size}{pinned}>"
        case dict():
            return f"{{{', '.join(f'{name!r}: {_word(each)}' for name, each in argument.items())}}}"
    return repr(argument)
