"""Receives containerd's events about images (containerd: api/events/image.proto).

An event goes once to those who are subscribed at that moment. containerd does not say when a subscription takes
effect, so a watcher lists the images again after the first event.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Self

from imagekeep.errors import InvalidDocumentError, printable
from imagekeep.protobuf import decode
from imagekeep.sources.containerd.names import reference_of
from imagekeep.sources.containerd.protocol import EVENT_MESSAGES, SUBSCRIBE
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from imagekeep.protobuf.containerd_events_pb2 import Envelope
    from imagekeep.sources.containerd.connection import Connection


class Topic(enum.StrEnum):
    """What happened to a record; changed labels and a new target are both an update."""

    CREATED = "/images/create"
    UPDATED = "/images/update"
    DELETED = "/images/delete"


class ImageEvent(NamedTuple):
    """One change of one record; `at` is containerd's own time."""

    topic: Topic
    reference: str
    at: datetime


_MESSAGES = {
    Topic.CREATED: EVENT_MESSAGES["ImageCreate"],
    Topic.UPDATED: EVENT_MESSAGES["ImageUpdate"],
    Topic.DELETED: EVENT_MESSAGES["ImageDelete"],
}


class Subscription:
    """Yields events as they come; ended by `cancel`, from any thread, and as a context manager.

    It has no timeout: an idle containerd sends nothing for hours. When containerd exits, the subscription raises
    SourceUnavailableError within milliseconds. Only another call shows whether it hangs or is idle.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        request = SUBSCRIBE.request(filters=[f'namespace=="{namespace}",topic=="{topic}"' for topic in Topic])
        self._stream = connection.stream(SUBSCRIBE, request, timeout=None)

    def cancel(self) -> None:
        """End the subscription, also for a thread that waits for the next event."""
        self._stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ImageEvent:
        while True:
            if (event := event_of(next(self._stream))) is not None:
                return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def event_of(envelope: Envelope) -> ImageEvent | None:
    """Decode an envelope; return None for a name that listings leave out too.

    The topic says which message it carries, because containerd writes the type without the host that protobuf's
    `Any` requires. Raises InvalidDocumentError for another topic or message.
    """
    try:
        topic = Topic(envelope.topic)
        name = decode(_MESSAGES[topic], envelope.event.value).name
    except ValueError as failure:
        document = f"event {printable(envelope.topic)}"
        raise InvalidDocumentError(document, InvalidDocumentError.Reason.TYPE, "not understood") from failure
    reference = reference_of(name)
    at = from_microseconds(envelope.timestamp.seconds * 1_000_000 + envelope.timestamp.nanos // 1000)
    return ImageEvent(topic, reference, at) if reference is not None else None
