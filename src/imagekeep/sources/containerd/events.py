"""Receives containerd's events about images and containers (containerd: api/events).

An event goes once to those who are subscribed at that moment. containerd does not say when a subscription takes
effect, so a watcher lists the images again after the first event.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Self

from imagekeep.errors import InvalidDocumentError, printable
from imagekeep.protobuf import decode
from imagekeep.sources.containerd.names import is_identifier, reference_of
from imagekeep.sources.containerd.protocol import (
    CONTAINER_MESSAGES,
    IMAGE_MESSAGES,
    SUBSCRIBE,
    TASK_EXIT,
    TASK_START,
)
from imagekeep.sources.protocol import ContainerEvent
from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from google.protobuf.timestamp_pb2 import Timestamp

    from imagekeep.protobuf.containerd_events_pb2 import Envelope
    from imagekeep.sources.containerd.connection import Connection


class Topic(enum.StrEnum):
    """What happened to a record; changed labels and a new target are both an update."""

    CREATED = "/images/create"
    UPDATED = "/images/update"
    DELETED = "/images/delete"


TASK_STARTED = "/tasks/start"
TASK_EXITED = "/tasks/exit"

TOPICS = (*Topic, *CONTAINER_MESSAGES, TASK_STARTED, TASK_EXITED)
"""The topics of a subscription."""


class ImageEvent(NamedTuple):
    """One change of one record; `at` is containerd's own time."""

    topic: Topic
    reference: str
    at: datetime


class Subscription:
    """Yields events as they come; ended by `cancel`, from any thread, and as a context manager.

    It has no timeout: an idle containerd sends nothing for hours. When containerd exits, the subscription raises
    SourceUnavailableError within milliseconds. Only another call shows whether it hangs or is idle.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        request = SUBSCRIBE.request(
            filters=[f'namespace=="{namespace}",topic=="{topic}"' for topic in TOPICS]
        )
        # Imported here because only a watcher needs it.
        from imagekeep.sources.containerd.event_stream import EventStream

        self._stream = EventStream(connection, SUBSCRIBE, request)

    def cancel(self) -> None:
        """End the subscription, also for a thread that waits for the next event."""
        self._stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ImageEvent | ContainerEvent:
        while True:
            if (event := event_of(next(self._stream))) is not None:
                return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


def event_of(envelope: Envelope) -> ImageEvent | ContainerEvent | None:
    """Decode an envelope; return None for names that listings leave out, and for commands executed in a container.

    The topic says which message it carries, because containerd writes the type without the host that protobuf's
    `Any` requires. Raises InvalidDocumentError for another topic or message.
    """
    try:
        if envelope.topic in IMAGE_MESSAGES:
            return _image_event(envelope)
        return _container_event(envelope)
    except ValueError as failure:
        document = f"event {printable(envelope.topic)}"
        raise InvalidDocumentError(document, InvalidDocumentError.Reason.TYPE, "not understood") from failure


def _image_event(envelope: Envelope) -> ImageEvent | None:
    name = decode(IMAGE_MESSAGES[envelope.topic], envelope.event.value).name
    reference = reference_of(name)
    if reference is None:
        return None
    return ImageEvent(Topic(envelope.topic), reference, time_of(envelope.timestamp))


def _container_event(envelope: Envelope) -> ContainerEvent | None:
    """Decode an event about a container; raises ValueError for another topic.

    A command executed in a container, as a kubelet's probes are, exits with an id of its own.
    """
    value = envelope.event.value
    if envelope.topic == TASK_STARTED:
        container_id = decode(TASK_START, value).container_id
    elif envelope.topic == TASK_EXITED:
        exited = decode(TASK_EXIT, value)
        if exited.id not in ("", exited.container_id):
            return None
        container_id = exited.container_id
    elif (kind := CONTAINER_MESSAGES.get(envelope.topic)) is not None:
        container_id = decode(kind, value).id
    else:
        raise ValueError(envelope.topic)
    if not is_identifier(container_id):
        return None
    return ContainerEvent(container_id, time_of(envelope.timestamp))


def time_of(stamp: Timestamp) -> datetime:
    """Return containerd's time, within the years that a datetime can have."""
    return from_microseconds(stamp.seconds * 1_000_000 + stamp.nanos // 1000)
