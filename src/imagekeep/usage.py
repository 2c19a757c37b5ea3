"""Who uses images: the containers that a source reports, what the store keeps of them, and what changes it.

::

    ContainerRecord   a container at a source
    Container         the same in the store, with the image that it uses
    ImageUsage        when an image was used, and by which containers

A container uses the image that it was made from for as long as it exists. Its reference may name another image by
now, so the chain id of the snapshot that it was made from decides, if only one image in the store has it. Without a
snapshot it is the image that the reference names when the container is first seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container at a source.

    `reference` names its image, and is empty if it has none or no store could keep the name. `running` is True
    while its process exists, even if it is paused. `snapshotter` and `snapshot_key` say where its file system is,
    and are empty if that is not a snapshot.
    """

    id: str
    reference: str
    created_at: datetime
    running: bool = False
    snapshotter: str = ""
    snapshot_key: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container in the store; `image_id` is None if it is not known which of the store's images it uses."""

    id: str
    reference: str
    image_id: str | None
    created_at: datetime | None
    running: bool


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """The use of one image.

    `last_used` is None if no use was seen. `uses` counts the containers that were seen and the uses that were
    reported by `Store.touch`. `containers` has those that exist: while there are any, the image is in use.
    """

    image_id: str
    first_seen: datetime
    last_used: datetime | None
    uses: int
    containers: tuple[Container, ...] = ()

    @property
    def in_use(self) -> bool:
        """Return whether a container uses the image."""
        return bool(self.containers)


class ContainerChanges(NamedTuple):
    """What makes the containers of a store those of its source."""

    new: tuple[ContainerRecord, ...]
    changed: tuple[Container, ...]
    gone: tuple[Container, ...]
    unresolved: tuple[ContainerRecord, ...]
    """Known containers whose image is not known yet."""

    def __bool__(self) -> bool:
        """Return whether there is something to write or to find out."""
        return any(self)


def compare(known: Iterable[Container], listed: Iterable[ContainerRecord]) -> ContainerChanges:
    """Return how the listed containers differ from the known ones, which must be all or those asked for.

    A container that was created at another time is another one with the same id.
    """
    records = {record.id: record for record in listed}
    before = {container.id: container for container in known}
    both = [
        (container, record)
        for each, record in records.items()
        if (container := before.get(each)) and container.created_at == record.created_at
    ]
    same = {container.id for container, _ in both}
    updated = ((container, _updated(container, record)) for container, record in both)
    return ContainerChanges(
        new=tuple(record for each, record in records.items() if each not in same),
        changed=tuple(after for container, after in updated if after != container),
        gone=tuple(container for each, container in before.items() if each not in same),
        unresolved=tuple(record for container, record in both if container.image_id is None),
    )


def _updated(container: Container, record: ContainerRecord) -> Container:
    """Return a known container as its source has it now; its image stays."""
    return replace(container, reference=record.reference, running=record.running)


def image_of(
    named: str | None, chain_id: str | None, ids_by_chain: Mapping[str, Collection[str]]
) -> str | None:
    """Return the image that a container was made from, or None if that is not certain.

    `named` is the image that its reference names, `chain_id` that of the layers that it was made from, if known.
    """
    if chain_id is None:
        return named
    candidates = ids_by_chain.get(chain_id, ())
    if named in candidates:
        return named
    return next(iter(candidates)) if len(candidates) == 1 else None
