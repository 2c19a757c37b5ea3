"""What was shipped to the fleet's centre, when, and why not: a small file beside the store.

`imagekeep ship` writes it, and `imagekeep db info` and the metrics show it. It is a report, not a cursor: only
the centre knows how far it has come.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

SUFFIX = ".shipped"

SIZE_MAX = 65_536
"""Maximum bytes of the file that are read."""


@dataclass(frozen=True, slots=True)
class ShipStatus:
    """The last shipments of a store; times are in microseconds since 1970, UTC.

    `error` is why the last one failed, or None. `epoch`, `sequence` and `shipped_at` are of the last that did not.
    """

    centre: str
    tried_at: int
    error: str | None = None
    epoch: int | None = None
    sequence: int | None = None
    shipped_at: int | None = None
    failures: int = 0


def succeeded(centre: str, now: int, epoch: int, sequence: int) -> ShipStatus:
    """Return the status after a shipment that succeeded."""
    return ShipStatus(centre, now, epoch=epoch, sequence=sequence, shipped_at=now)


def failed(before: ShipStatus | None, centre: str, now: int, error: str) -> ShipStatus:
    """Return the status after a shipment that failed."""
    if before is None or before.centre != centre:
        return ShipStatus(centre, now, error, failures=1)
    return replace(before, tried_at=now, error=error, failures=before.failures + 1)


def status_path(store: Path) -> Path:
    """Return the path of the file beside a store."""
    return store.with_name(store.name + SUFFIX)


def read_ship_status(store: Path) -> ShipStatus | None:
    """Return the status beside a store; None if nothing was shipped, or the file cannot be understood."""
    try:
        with status_path(store).open("rb") as file:
            return _parse(json.loads(file.read(SIZE_MAX)))
    except (OSError, ValueError):
        return None


def write_ship_status(store: Path, status: ShipStatus) -> None:
    """Replace the status beside a store; raises OSError."""
    path = status_path(store)
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # only its owner can read it
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
            json.dump(asdict(status), file)
        os.replace(name, path)  # noqa: PTH105 (names, not Paths)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


_KINDS: dict[str, tuple[type, ...]] = {
    "centre": (str,),
    "tried_at": (int,),
    "error": (str, type(None)),
    "epoch": (int, type(None)),
    "sequence": (int, type(None)),
    "shipped_at": (int, type(None)),
    "failures": (int,),
}


def _parse(found: Any) -> ShipStatus | None:
    if not isinstance(found, dict) or found.keys() != _KINDS.keys():
        return None
    if not all(type(found[name]) in kinds for name, kinds in _KINDS.items()):
        return None
    return ShipStatus(**found)
