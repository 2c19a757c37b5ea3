"""Events of a real containerd as images change."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidDocumentError, SourceUnavailableError
from imagekeep.sources.containerd import Containerd, ImageEvent, Topic
from imagekeep.sources.containerd.events import event_of
from imagekeep.sources.containerd.protocol import (
    CONTAINER_MESSAGES,
    IMAGE_MESSAGES,
    SUBSCRIBE,
    TASK_EXIT,
    TASK_START,
)
from imagekeep.sources.protocol import ContainerEvent
from imagekeep.times import current_time, from_microseconds
from tests.containerd import CRI, running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

    from imagekeep.sources.containerd import Subscription
    from tests.containerd import Daemon

NAMESPACE = "events"


def of_images(events: Iterable[object]) -> Iterator[ImageEvent]:
    """Yield the events of images."""
    return (event for event in events if isinstance(event, ImageEvent))


def of_containers(events: Iterable[object]) -> Iterator[ContainerEvent]:
    """Yield the events of containers."""
    return (event for event in events if isinstance(event, ContainerEvent))


@pytest.fixture
def source(daemon: Daemon) -> Iterator[Containerd]:
    with Containerd(daemon.socket, namespace=NAMESPACE) as source:
        yield source


@pytest.fixture
def subscription(daemon: Daemon, source: Containerd, tmp_path: Path) -> Iterator[Subscription]:
    """Return a subscription that has taken effect: it has received an image's events."""
    image = f"example.test/{tmp_path.name}:live"
    daemon.make_image(tmp_path / "live", image, namespace=NAMESPACE)
    with source.subscribe() as subscription:
        touching = threading.Event()

        def touch() -> None:
            while not touching.wait(0.005):
                source.set_label(image, "touched", "yes")

        toucher = threading.Thread(target=touch)
        toucher.start()
        assert next(of_images(subscription)).reference == image
        touching.set()
        toucher.join()
        source.set_label(image, "touched", None)
        source.remove(image)
        assert any(event.topic is Topic.DELETED for event in of_images(subscription))
        yield subscription


def test_a_record_has_events_when_it_is_created_updated_and_deleted(
    daemon: Daemon, source: Containerd, subscription: Subscription, tmp_path: Path
) -> None:
    began = current_time()
    daemon.make_image(tmp_path / "image", "example.test/event:v1", namespace=NAMESPACE)
    source.pin("example.test/event:v1")
    source.remove("example.test/event:v1")
    events = list(islice(of_images(subscription), 3))
    assert [(event.topic, event.reference) for event in events] == [
        (Topic.CREATED, "example.test/event:v1"),
        (Topic.UPDATED, "example.test/event:v1"),
        (Topic.DELETED, "example.test/event:v1"),
    ]
    assert began <= events[0].at <= events[1].at <= events[2].at <= current_time()


def test_events_are_only_of_the_namespace(
    daemon: Daemon, source: Containerd, subscription: Subscription, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "other", "example.test/foreign:v1", namespace="events2")
    daemon.ctr("namespaces", "label", NAMESPACE, "a=b", namespace=NAMESPACE)
    daemon.make_image(tmp_path / "own", "example.test/own:v1", namespace=NAMESPACE)
    assert next(of_images(subscription)).reference == "example.test/own:v1"


def test_a_container_has_events_when_it_is_created_labelled_and_removed(
    daemon: Daemon, subscription: Subscription, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", "example.test/used:v1", NAMESPACE)
    began = current_time()
    daemon.make_container("example.test/used:v1", "container-events", namespace=NAMESPACE)
    daemon.ctr("containers", "label", "container-events", "team=shop", namespace=NAMESPACE)
    daemon.remove_container("container-events", NAMESPACE)
    events = list(islice(of_containers(subscription), 3))
    assert [event.container_id for event in events] == ["container-events"] * 3
    assert began <= events[0].at <= events[1].at <= events[2].at <= current_time()


def test_the_start_and_end_of_a_container_are_events_and_those_of_its_commands_are_not(
    daemon: Daemon, subscription: Subscription, tmp_path: Path
) -> None:
    daemon.make_runnable(tmp_path / "busybox", "example.test/run:v1", NAMESPACE)
    with daemon.running_container("example.test/run:v1", "task-events", NAMESPACE):
        probe = ("tasks", "exec", "--exec-id", "probe", "task-events", "/bin/busybox", "true")
        daemon.ctr(*probe, namespace=NAMESPACE)
        daemon.make_container("example.test/run:v1", "after-probe", namespace=NAMESPACE)
    daemon.remove_container("after-probe", NAMESPACE)
    events = list(islice(of_containers(subscription), 6))
    assert [event.container_id for event in events] == [
        "task-events",  # created
        "task-events",  # started
        "after-probe",
        "task-events",  # exited
        "task-events",  # removed
        "after-probe",
    ]


def test_a_wait_for_an_event_ends_when_it_is_cancelled(subscription: Subscription) -> None:
    threading.Timer(0.05, subscription.cancel).start()
    assert list(subscription) == []


def test_a_wait_for_an_event_ends_when_the_source_is_closed(
    source: Containerd, subscription: Subscription
) -> None:
    threading.Timer(0.05, source.close).start()
    assert list(subscription) == []


def test_a_containerd_that_ends_ends_the_subscription_with_an_error(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon, Containerd(daemon.socket) as source:
        subscription = source.subscribe()
        ending = threading.Timer(0.05, daemon.end)
        ending.start()
        with pytest.raises(SourceUnavailableError, match="containerd"):
            next(subscription)
        ending.join()


@pytest.mark.parametrize("host", ["", "type.googleapis.com/"])
def test_the_type_of_an_event_may_have_a_host_or_none(host: str) -> None:
    envelope = SUBSCRIBE.response(topic="/images/create", namespace="k8s.io")
    envelope.timestamp.seconds, envelope.timestamp.nanos = 1_700_000_000, 123_456_789
    envelope.event.type_url = f"{host}containerd.services.images.v1.ImageCreate"
    envelope.event.value = IMAGE_MESSAGES["/images/create"](name=b"a:b").SerializeToString()
    assert event_of(envelope) == ImageEvent(Topic.CREATED, "a:b", from_microseconds(1_700_000_000_123_456))


def test_an_event_with_a_name_that_no_store_can_keep_is_skipped() -> None:
    envelope = SUBSCRIBE.response(topic="/images/delete")
    envelope.event.value = IMAGE_MESSAGES["/images/delete"](name=b"\xff").SerializeToString()
    assert event_of(envelope) is None


@pytest.mark.parametrize(
    ("seconds", "year"),
    [(2**63 - 1, "9999-12-31"), (-(2**63), "0001-01-01"), (253_402_300_799, "9999-12-31")],
)
def test_a_time_is_one_that_can_be_kept(seconds: int, year: str) -> None:
    envelope = SUBSCRIBE.response(topic="/images/create")
    envelope.event.value = IMAGE_MESSAGES["/images/create"](name=b"a:b").SerializeToString()
    envelope.timestamp.seconds = seconds
    event = event_of(envelope)
    assert event is not None
    assert str(event.at).startswith(year)


@pytest.mark.parametrize(
    ("topic", "value", "event"),
    [
        ("/tasks/start", TASK_START(container_id="app"), "app"),
        ("/tasks/exit", TASK_EXIT(container_id="app", id="app"), "app"),
        ("/tasks/exit", TASK_EXIT(container_id="app"), "app"),
        ("/tasks/exit", TASK_EXIT(container_id="app", id="probe"), None),
        ("/tasks/start", TASK_START(container_id="x" * 100), None),
        ("/containers/create", CONTAINER_MESSAGES["/containers/create"](id="a/../b"), None),
        ("/containers/delete", CONTAINER_MESSAGES["/containers/delete"](id=""), None),
        ("/containers/update", CONTAINER_MESSAGES["/containers/update"](id="k8s_app.1"), "k8s_app.1"),
    ],
    ids=str,
)
def test_an_event_about_a_container_names_it(topic: str, value: Message, event: str | None) -> None:
    envelope = SUBSCRIBE.response(topic=topic)
    envelope.event.value = value.SerializeToString()
    named = event_of(envelope)
    assert named == (event and ContainerEvent(event, from_microseconds(0)))


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("/tasks/oom", b""),
        ("/images/create", b"\xff"),
        ("/tasks/exit", b"\xff"),
        ("/containers/create", b"\xff"),
    ],
)
def test_an_event_that_is_not_understood_is_an_error(topic: str, value: bytes) -> None:
    envelope = SUBSCRIBE.response(topic=topic)
    envelope.event.value = value
    with pytest.raises(InvalidDocumentError, match=topic):
        event_of(envelope)
