"""Lists what containerd has besides records: blobs (content.v1), containers and tasks, and snapshots.

Blobs, containers and snapshots come as streams, so that a listing of any length is read a part at a time. What has
an impossible name or size is left out: containerd accepts none of it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from imagekeep.digest import is_digest
from imagekeep.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    SourceUnsupportedError,
)
from imagekeep.oci.content import require_few_blobs
from imagekeep.sources.containerd import protocol
from imagekeep.sources.containerd.events import time_of
from imagekeep.sources.containerd.names import is_identifier, reference_of
from imagekeep.usage import ContainerRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from imagekeep.protobuf.containerd_containers_pb2 import Container
    from imagekeep.protobuf.containerd_tasks_pb2 import Process
    from imagekeep.sources.containerd.connection import Connection

SINGLE_MAX: Final = 64
"""Most blobs to ask for one by one; for more, one listing of all takes less time."""

FILTERS_MAX: Final = 16
"""Most containers to name in a request, and tasks to ask for one by one."""

CONTAINERS_MAX: Final = 10_000
"""Most containers in a listing."""

SNAPSHOTS_MAX: Final = 500_000
"""Most snapshots in a listing."""

KEY_LENGTH_MAX: Final = 4096
"""Longest key of a snapshot to ask about, in bytes; nearly always it is the container's id."""

_RUNNING, _PAUSED, _PAUSING = 2, 4, 5
_HAS_PROCESS: Final = frozenset((_RUNNING, _PAUSED, _PAUSING))
"""The states of a task whose process exists (containerd: api/types/task)."""


def blob_sizes(connection: Connection, digests: Collection[str] | None, timeout: float) -> dict[str, int]:
    """Return the sizes of these blobs, or of all; raises FailedPreconditionError for more than BLOBS_LIMIT."""
    if digests is not None and len(digests) <= SINGLE_MAX:
        return dict(_each_size(connection, filter(is_digest, digests), timeout))
    sizes: dict[str, int] = {}
    wanted = None if digests is None else frozenset(digests)
    request = protocol.LIST_CONTENT.request()
    with connection.stream(protocol.LIST_CONTENT, request, timeout=timeout) as answers:
        for answer in answers:
            found = ((info.digest, info.size) for info in answer.info)
            sizes.update(
                (digest, size)
                for digest, size in found
                if size >= 0 and (is_digest(digest) if wanted is None else digest in wanted)
            )
            require_few_blobs(len(sizes), str(connection))
    return sizes


def _each_size(connection: Connection, digests: Iterable[str], timeout: float) -> Iterator[tuple[str, int]]:
    """Yield the size of each of these blobs that containerd has, by a call for each."""
    wanted = list(digests)
    requests = [protocol.CONTENT_INFO.request(digest=digest) for digest in wanted]
    answers = connection.call_each(protocol.CONTENT_INFO, requests, timeout=timeout)
    for digest, answer in zip(wanted, answers, strict=True):
        if answer is not None and answer.info.size >= 0:
            yield digest, answer.info.size


def list_containers(
    connection: Connection, ids: Collection[str] | None, timeout: float
) -> list[ContainerRecord]:
    """Return these containers, or all; raises FailedPreconditionError for more than CONTAINERS_MAX."""
    wanted = None if ids is None else {each for each in ids if is_identifier(each)}
    if wanted is not None and not wanted:
        return []
    found: dict[str, ContainerRecord] = {}
    for container in _containers(connection, wanted, timeout):
        if is_identifier(container.id) and (wanted is None or container.id in wanted):
            found[container.id] = _record(container)
            _limit(connection, len(found), CONTAINERS_MAX, "containers")
    running = _running(connection, found, timeout) if found else frozenset()
    return [replace(record, running=record.id in running) for record in found.values()]


def _containers(connection: Connection, ids: Collection[str] | None, timeout: float) -> Iterator[Container]:
    few = ids if ids is not None and len(ids) <= FILTERS_MAX else ()
    request = protocol.LIST_CONTAINERS.request(filters=[f'id=="{each}"' for each in few])
    with connection.stream(protocol.LIST_CONTAINERS, request, timeout=timeout) as answers:
        for answer in answers:
            yield answer.container


def _record(container: Container) -> ContainerRecord:
    key = container.snapshot_key
    has_snapshot = is_identifier(container.snapshotter) and 0 < len(key) <= KEY_LENGTH_MAX
    return ContainerRecord(
        id=container.id,
        reference=reference_of(container.image) or "",
        created_at=time_of(container.created_at),
        snapshotter=container.snapshotter if has_snapshot else "",
        snapshot_key=os.fsdecode(key) if has_snapshot else "",
    )


def _running(connection: Connection, ids: Collection[str], timeout: float) -> frozenset[str]:
    """Return which of these containers have a process; none of them if containerd runs no tasks at all."""
    try:
        if len(ids) <= FILTERS_MAX:
            tasks = list(_tasks(connection, ids, timeout))
        else:
            request = protocol.LIST_TASKS.request()
            tasks = list(connection.call(protocol.LIST_TASKS, request, timeout=timeout).tasks)
    except SourceUnsupportedError:
        return frozenset()
    return frozenset(task.id for task in tasks if task.status in _HAS_PROCESS)


def _tasks(connection: Connection, ids: Iterable[str], timeout: float) -> Iterator[Process]:
    """Yield the tasks of these containers, each of which has at most one."""
    requests = [protocol.GET_TASK.request(container_id=container_id) for container_id in ids]
    for answer in connection.call_each(protocol.GET_TASK, requests, timeout=timeout):
        if answer is not None:
            yield answer.process


def committed_snapshots(connection: Connection, snapshotter: str, timeout: float) -> frozenset[str]:
    """Return the chain ids of the layers that a snapshotter has unpacked.

    Raises FailedPreconditionError for more than SNAPSHOTS_MAX, and InvalidArgumentError if containerd has no such
    snapshotter.
    """
    request = protocol.LIST_SNAPSHOTS.request(snapshotter=snapshotter, filters=["kind==committed"])
    names: set[str] = set()
    with connection.stream(protocol.LIST_SNAPSHOTS, request, timeout=timeout) as answers:
        for answer in answers:
            names.update(name for info in answer.info if is_digest(name := os.fsdecode(info.name)))
            _limit(connection, len(names), SNAPSHOTS_MAX, "snapshots")
    return frozenset(names)


def snapshot_sizes(
    connection: Connection, snapshotter: str, chain_ids: Iterable[str], timeout: float
) -> dict[str, int]:
    """Return the bytes that each of these layers takes unpacked, without those beneath it; a call for each."""
    sizes: dict[str, int] = {}
    rest = iter(chain_ids)
    while batch := list(islice(rest, SINGLE_MAX)):
        requests = [
            protocol.SNAPSHOT_USAGE.request(snapshotter=snapshotter, key=chain_id.encode())
            for chain_id in batch
        ]
        answers = connection.call_each(protocol.SNAPSHOT_USAGE, requests, timeout=timeout)
        for chain_id, answer in zip(batch, answers, strict=True):
            if answer is not None and answer.size >= 0:
                sizes[chain_id] = answer.size
    return sizes


def snapshot_parent(connection: Connection, container: ContainerRecord, timeout: float) -> str | None:
    """Return the chain id that a container's snapshot is based on; None without one.

    A snapshot whose files were given to other users, as for a user namespace, is based on no chain id.
    """
    request = protocol.SNAPSHOT_INFO.request(
        snapshotter=container.snapshotter, key=os.fsencode(container.snapshot_key)
    )
    try:
        answer = connection.call(protocol.SNAPSHOT_INFO, request, timeout=timeout)
    except (NotFoundError, InvalidArgumentError):
        return None
    parent = os.fsdecode(answer.info.parent)
    return parent if is_digest(parent) else None


def _limit(connection: Connection, count: int, most: int, what: str) -> None:
    if count > most:
        raise FailedPreconditionError(f"{connection}: more than {most} {what}")
