"""Containers and other uses of images: what a source reports about containers, and what the store keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
