"""What leaves a node, and in which form: pure functions, without I/O.

Of a config, only the fields of Facts leave: `history[].created_by` (build arguments), `author`, Env, Labels, Cmd
and Entrypoint stay at home.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypedDict

from imagekeep.times import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from imagekeep.database.feed import FeedRow, StateRow
    from imagekeep.oci.config import ImageConfig
    from imagekeep.watcher_status import IncompleteReference

LAYERS_MAX: Final = 1000
"""Layers of an image that the centre takes; one with more has no facts there."""

FIELD_MAX: Final = 120
"""Characters of a field of a config; the centre takes 1,000 bytes for five of them."""

ERROR_MAX: Final = 300
INCOMPLETE_MAX: Final = 1000

_ESCAPE: Final = str.maketrans({"\x01": "\x01\x01", "\x00": "\x010"})
"""PostgreSQL's text cannot hold a NUL, which containerd allows in a name; no two names become one."""


class Facts(TypedDict):
    """What the fleet knows of an image besides its id and size."""

    id: str
    chain_id: str
    os: str
    architecture: str
    variant: str | None
    created: str | None
    layers: list[str]


def wire_name(reference: str) -> str:
    """Return a reference as PostgreSQL can hold it."""
    return reference.translate(_ESCAPE)


def history_columns(rows: Sequence[FeedRow]) -> tuple[list[Any], ...]:
    """Return rows of the history as the arrays of receive_v1: names, ids, sizes, targets, pins and times."""
    return (
        [wire_name(row.reference) if row.kept else None for row in rows],
        [row.image_id if row.kept and row.event != "vanished" else None for row in rows],
        [row.size if row.event != "vanished" else None for row in rows],
        [row.target_digest for row in rows],
        [row.pinned for row in rows],
        [from_microseconds(row.at) for row in rows],
    )


def state_columns(rows: Sequence[StateRow]) -> tuple[list[Any], ...]:
    """Return a state as the arrays of snapshot_v1: names, ids, sizes, targets and pins."""
    return (
        [wire_name(row.reference) for row in rows],
        [row.image_id for row in rows],
        [row.size for row in rows],
        [row.target_digest for row in rows],
        [row.pinned for row in rows],
    )


def state_hash(rows: Iterable[StateRow]) -> bytes:
    """Return the hash of a state as the centre's hash_of_state makes it."""
    lines = sorted(
        (wire_name(row.reference).encode(), row.image_id, row.size, row.target_digest, row.pinned)
        for row in rows
    )
    digest = hashlib.sha256()
    for name, image_id, size, target, pinned in lines:
        rest = "\0".join(("", image_id, str(size), target or "", str(int(pinned)), ""))
        digest.update(name + rest.encode())
    return digest.digest()


def facts_of(image_id: str, chain_id: str, config: ImageConfig) -> Facts | None:
    """Return the facts of an image, or None if it has more layers than the centre takes."""
    layers = config["rootfs"]["diff_ids"] or []
    if len(layers) > LAYERS_MAX:
        return None
    return {
        "id": image_id,
        "chain_id": chain_id,
        "os": _field(config.get("os")) or "",
        "architecture": _field(config.get("architecture")) or "",
        "variant": _field(config.get("variant")),
        "created": _field(config.get("created")),
        "layers": list(layers),
    }


def incomplete_columns(
    rows: Sequence[IncompleteReference],
) -> tuple[list[str], list[str], list[datetime]]:
    """Return the incomplete references as the arrays of incomplete_v1."""
    kept = rows[:INCOMPLETE_MAX]
    names = [wire_name(row.reference)[:ERROR_MAX] for row in kept]
    errors = [row.error.replace("\0", "\N{REPLACEMENT CHARACTER}")[:ERROR_MAX] for row in kept]
    return names, errors, [row.since for row in kept]


def incomplete_hash(columns: Iterable[Sequence[object]]) -> bytes:
    """Return a hash of the incomplete references, which the centre compares with its own."""
    return hashlib.sha256(repr(list(columns)).encode("utf-8", "backslashreplace")).digest()


def _field(value: str | None) -> str | None:
    if not value:
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:FIELD_MAX]
