"""The web page of `imagekeep browse`: a Datasette that shows the views and the named queries of a store.

::

    server    makes the Datasette: which views, queries and pages there are, and that nothing else is
    guard     lets in only who has the token, and only by a loopback name
    cells     shows ids short, sizes readable, and names as links
    growth    computes and draws the growth of the node from its history

A config's environment and labels are in a table, and tables are not served: only the views, which leave them out.
No page runs SQL of its visitor.
"""

from __future__ import annotations

import sys

from imagekeep.database.driver import DRIVER

if DRIVER == "sqlite3":
    # Datasette would take pysqlite3 where that is installed; one process must not use two copies of SQLite.
    sys.modules["pysqlite3"] = None  # type: ignore[assignment]
