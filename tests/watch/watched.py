"""A source in memory that reports its changes, and whose calls a test can interrupt."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import FailedPreconditionError, ImagekeepError
from imagekeep.times import current_time
from tests.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from imagekeep import ImageRecord
    from imagekeep.oci.descriptor import Descriptor


class Told(NamedTuple):
    """An event."""

    reference: str
    at: datetime


class Subscription:
    """One subscriber's events, until it is cancelled or lost."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[Told | BaseException | None] = SimpleQueue()

    def __iter__(self) -> Iterator[Told]:
        while (item := self.inbox.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def cancel(self) -> None:
        self.inbox.put(None)


class WatchedSource(MemorySource):
    """Implements Watchable. `calls` lists the calls in order, and `at` acts at one of them.

    A moment is the name of a call after `before` or `after`: `before get`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.subscriptions: list[Subscription] = []
        self.closed = threading.Event()
        self._at: dict[str, Callable[[], object]] = {}

    def at(self, moment: str, action: Callable[[], object]) -> None:
        """Run an action once, at the next such moment."""
        self._at[moment] = action

    def tell(self, reference: str, at: datetime | None = None) -> None:
        """Tell all subscribers that a reference changed."""
        for subscription in self.subscriptions:
            subscription.inbox.put(Told(reference, at or current_time()))

    def lose(self, error: BaseException | None = None) -> None:
        """End every subscription, with an error if there is one."""
        for subscription in self.subscriptions:
            subscription.inbox.put(error)
        self.subscriptions.clear()

    def hang(self) -> None:
        """Wait until the source is closed, like a call without a reply."""
        self.closed.wait()
        raise FailedPreconditionError("the source was closed")

    def subscribe(self) -> Subscription:
        self._pass("before subscribe")
        self.calls.append("subscribe")
        subscription = Subscription()
        self.subscriptions.append(subscription)
        self._pass("after subscribe")
        return subscription

    def close(self) -> None:
        self.closed.set()
        self.lose()

    def records(self) -> list[ImageRecord]:
        self._pass("before records")
        self.calls.append("records")
        listed = list(super().records())
        self._pass("after records")
        return listed

    def get(self, reference: str) -> ImageRecord:
        self._pass("before get")
        self.calls.append(f"get {reference}")
        try:
            return super().get(reference)
        finally:
            self._pass("after get")

    def read(self, descriptor: Descriptor) -> bytes:
        self._pass("before read")
        blob = super().read(descriptor)
        self._pass("after read")
        return blob

    def _pass(self, moment: str) -> None:
        if action := self._at.pop(moment, None):
            action()


def raising(error: ImagekeepError) -> Callable[[], None]:
    """Return a function that raises an error."""

    def fail() -> None:
        raise error

    return fail
