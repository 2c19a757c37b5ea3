"""Ships a store's history to a fleet's centre on PostgreSQL, and asks the centre; needs `imagekeep[fleet]`.

::

    from imagekeep.fleet import read_credentials, ship_store

    done = ship_store(Path("images.db"), read_credentials(Path("fleet.credentials")), "my daemon 1.0")
    print(done.rows, done.epoch, done.sequence)

`follow_store` ships until an event is set. `imagekeep fleet` does everything else, or SQL on the centre's views.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagekeep.fleet.connection import parse_url, read_credentials
    from imagekeep.fleet.follow import Pace, follow_store, ship_store
    from imagekeep.fleet.shipment import Reason, Shipment

__all__ = ["Pace", "Reason", "Shipment", "follow_store", "parse_url", "read_credentials", "ship_store"]

_MODULES = {
    "parse_url": "connection",
    "read_credentials": "connection",
    "Pace": "follow",
    "follow_store": "follow",
    "ship_store": "follow",
    "Reason": "shipment",
    "Shipment": "shipment",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is used: exported stores can be asked without psycopg.

    Raises MissingExtraError without psycopg.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
