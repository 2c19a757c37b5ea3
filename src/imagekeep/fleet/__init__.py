"""Ships a store's history to a fleet's centre on PostgreSQL, and asks the centre; needs `imagekeep[fleet]`.

::

    from imagekeep.fleet import read_credentials, ship_store

    done = ship_store(Path("images.db"), read_credentials(Path("fleet.credentials")), "my daemon 1.0")
    print(done.rows, done.epoch, done.sequence)

`follow` ships until an event is set. Everything else is done by `imagekeep fleet`, or in SQL on the centre's views.
"""

from __future__ import annotations

from imagekeep.fleet.connection import parse_url, read_credentials
from imagekeep.fleet.follow import Pace, follow, ship_store
from imagekeep.fleet.shipment import Reason, Shipment

__all__ = ["Pace", "Reason", "Shipment", "follow", "parse_url", "read_credentials", "ship_store"]
