"""Makes the Datasette of a store, and serves it on a loopback port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagekeep.browse.guard import guarded
from imagekeep.database.connection import connect
from imagekeep.errors import MissingExtraError, StoreUnavailableError, printable
from imagekeep.named_queries import named_queries
from imagekeep.schema import metadata, views

try:
    import uvicorn
    from datasette.app import Datasette
    from datasette.database import Database
    from datasette.plugins import pm

    from imagekeep.browse import pages
except ImportError as error:
    raise MissingExtraError("datasette", "browse") from error

if TYPE_CHECKING:
    import socket

    from imagekeep.database.driver import sqlite

TEMPLATES = Path(__file__).parent / "templates"

FACETS = {
    "image_list": ("state", "pinned", "in_use"),
    "reference_list": ("registry", "repository", "kind", "pinned"),
    "platform_list": ("platform", "state", "chosen"),
    "config_list": ("os", "architecture", "user"),
    "layer_list": ("media_type", "present", "unpacked"),
    "content_list": ("media_type", "present"),
    "history_list": ("event", "platform"),
    "container_list": ("running",),
}
"""The columns by whose values a view's page can be narrowed."""

SORTED = {"history_list": {"sort_desc": "sequence"}, "image_list": {"sort_desc": "size"}}

OTHER_TABLES = ("alembic_version", "sqlite_master", "sqlite_schema")

SETTINGS = {
    "allow_download": False,
    "default_page_size": 100,
    "facet_time_limit_ms": 1000,
    "num_sql_threads": 2,
    "sql_time_limit_ms": 10_000,
    "suggest_facets": False,
}


class StoreDatabase(Database):  # type: ignore[misc]
    """A Datasette database that opens the store as imagekeep does, and never writes."""

    def connect(self, write: bool = False) -> sqlite.Connection:
        """Open a read-only connection."""
        if write:
            raise StoreUnavailableError(f"store {printable(self.path)}: opened read-only")
        connection = connect(Path(self.path), read_only=True)
        self._all_file_connections.append(connection)
        return connection


def make_datasette(store: Path) -> Datasette:
    """Return the Datasette of a store, without the checks of `guarded`."""
    if not pm.has_plugin("imagekeep"):
        pm.register(pages, name="imagekeep")
    datasette = Datasette(
        files=[],
        memory=False,
        metadata=site_metadata(store),
        settings=SETTINGS,
        template_dir=str(TEMPLATES),
    )
    datasette.add_database(StoreDatabase(datasette, path=str(store), is_mutable=True), name=pages.DATABASE)
    return datasette


def site_metadata(store: Path) -> dict[str, Any]:
    """Return Datasette's metadata: the views with their columns, the named queries, and no tables and no SQL."""
    shown = {
        name: {
            "title": name,
            "description": f"{(view.comment or '').capitalize()}.",
            "columns": {column.name: column.comment for column in view.columns},
            "facets": list(FACETS.get(name, ())),
            **SORTED.get(name, {}),
        }
        for name, view in views.tables.items()
    }
    kept_back = {name: {"allow": False, "hidden": True} for name in (*metadata.tables, *OTHER_TABLES)}
    queries = {
        query.name: {
            "title": query.question,
            "sql": query.sql,
            "params": list(query.parameters),
            "hide_sql": True,
        }
        for query in named_queries().values()
    }
    return {
        "title": f"Images of {store.name}",
        "allow_sql": False,
        "databases": {pages.DATABASE: {"tables": {**shown, **kept_back}, "queries": queries}},
    }


def serve(store: Path, listening: socket.socket, token: str | None) -> None:
    """Serve a store on a listening socket until the process is interrupted."""
    datasette = make_datasette(store)
    config = uvicorn.Config(
        guarded(datasette.app(), token),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
    )
    uvicorn.Server(config).run(sockets=[listening])
