"""Hooks that define how pages look; this module is registered as a plugin of Datasette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette import hookimpl

from imagekeep.browse import growth
from imagekeep.browse.cells import render
from imagekeep.database.driver import sqlite
from imagekeep.named_queries import named_queries
from imagekeep.schema import views

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette
    from markupsafe import Markup

DATABASE = "images"
"""The name of the database in addresses."""

NEWEST = "SELECT time, event, reference, image_id FROM history_list ORDER BY sequence DESC LIMIT 12"
"""The newest changes on the front page."""

HISTORY_LIMIT = 200_000
"""Maximum changes to draw the growth of a node from."""

HISTORY = """
SELECT at, reference, CASE WHEN event <> 'vanished' THEN image_id END, coalesce(size, 0), time
FROM (SELECT *, CAST(strftime('%s', time) AS INTEGER) AS at FROM history_list ORDER BY sequence DESC LIMIT 200000)
WHERE coalesce(platform = (SELECT platform FROM store_list), 1)
ORDER BY sequence
"""


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: sqlite.Connection, database: str) -> None:
    """Let no statement read documents but a view: they hold the environment and labels of configs."""
    if database == DATABASE:  # Datasette has one of its own in memory
        conn.set_authorizer(_authorize)


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(
    value: object, column: str, table: str | None, database: str, datasette: Datasette
) -> Markup | None:
    """Return what a cell shows; see `imagekeep.browse.cells`."""
    return render(value, column, table, database, datasette.urls.path)


@hookimpl  # type: ignore[untyped-decorator]
def extra_template_vars(
    template: str, datasette: Datasette
) -> Callable[[], Awaitable[dict[str, Any]]] | None:
    """Return what the front page shows besides Datasette's own values."""
    if template != "index.html":
        return None

    async def front_page() -> dict[str, Any]:
        return await _front_page(datasette)

    return front_page


def _authorize(action: int, name: str | None, column: str | None, _: str | None, view: str | None) -> int:
    """Return to SQLite whether a statement that it compiles may do this (sqlite3_set_authorizer)."""
    secret = action == sqlite.SQLITE_READ and name == "documents" and column == "document"
    return sqlite.SQLITE_DENY if secret and view is None else sqlite.SQLITE_OK


async def _front_page(datasette: Datasette) -> dict[str, Any]:
    """Return the totals, the newest changes, the growth and the questions of the front page."""
    database = datasette.get_database(DATABASE)
    store = (await database.execute("SELECT * FROM store_list")).first()
    disk = (await database.execute(named_queries()["disk"].sql)).first()
    changes = (await database.execute(NEWEST)).rows
    history = (await database.execute(HISTORY, page_size=HISTORY_LIMIT)).rows
    points = list(growth.grow(growth.Change(*row[:4]) for row in history))
    days = [row[4][:10] for row in history[:: max(1, len(history) - 1)]] or [""]
    return {
        "store": dict(store),
        "disk": dict(disk),
        "changes": [dict(change) for change in changes],
        "growth": growth.chart(growth.thin(points), days[0], days[-1]),
        "questions": named_queries().values(),
        "views": list(views.tables.values()),
        "human": growth.human,
        "cell": lambda value, column: render(value, column, None, DATABASE, datasette.urls.path),
    }
