"""What the pages show, and what they never show; requests go to the application without a socket."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from imagekeep import Store
from imagekeep.browse.pages import DATABASE
from imagekeep.browse.server import FACETS, make_datasette
from imagekeep.named_queries import named_queries
from imagekeep.schema import metadata, views
from tests.database.rows import opened
from tests.demo_store import APP_2, SECRETS

if TYPE_CHECKING:
    from pathlib import Path


class Site:
    """The pages of a store."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def get(self, *paths: str) -> list[Any]:
        """Return the replies to some paths."""

        async def ask() -> list[Any]:
            datasette = make_datasette(self._store)
            try:
                return [await datasette.client.get(path) for path in paths]
            finally:
                for database in datasette.databases.values():
                    database.close()

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def site(demo: Path) -> Site:
    """The pages of the example store."""
    return Site(demo)


def test_the_front_page_has_totals_changes_growth_and_questions(site: Site) -> None:
    (page,) = site.get("/")
    assert page.status_code == 200
    text = page.text
    assert re.search(r'id="images"><a [^>]*>8<', text)
    assert text.count("<tr><td>2026-") == 12
    assert '<svg class="growth"' in text
    assert all(f"/images/{name}" in text for name in (*named_queries(), *views.tables))


@pytest.mark.parametrize("view", views.tables)
def test_a_view_has_a_page_with_its_columns_and_facets(site: Site, view: str) -> None:
    page, rows = site.get(f"/images/{view}", f"/images/{view}.json?_shape=objects")
    assert page.status_code == 200
    assert all(
        f">{column.comment}<".replace("'", "&#39;") in page.text for column in views.tables[view].columns
    )
    assert set(json.loads(rows.text)["facet_results"]) == set(FACETS.get(view, ()))


@pytest.mark.parametrize("name", named_queries())
def test_a_question_has_a_page(site: Site, name: str) -> None:
    query = named_queries()[name]
    path = f"/images/{name}?{urlencode(query.values(query.example))}"
    page, rows = site.get(path, path.replace("?", ".json?_shape=array&"))
    assert page.status_code == 200
    assert query.question in unescape(page.text)
    assert json.loads(rows.text)


@pytest.mark.parametrize("table", [*metadata.tables, "alembic_version", "sqlite_master", "sqlite_schema"])
def test_no_table_is_served(site: Site, table: str) -> None:
    paths = [
        f"/images/{table}{rest}" for rest in ("", ".json", ".csv", "/1", "/1.json", "/1.blob?_blob_column=x")
    ]
    assert {page.status_code for page in site.get(*paths)} <= {403, 404}


STATEMENTS = [
    "SELECT document FROM documents",
    "WITH config_list AS (SELECT document FROM documents) SELECT * FROM config_list",
    "SELECT 1",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_no_sql_of_a_visitor_runs(site: Site, sql: str) -> None:
    asked = quote(sql)
    paths = [f"/images?sql={asked}", f"/images.json?sql={asked}", f"/images/largest?sql={asked}"]
    paths += [f"/images/image_list?_where={quote('id IN (' + sql + ')')}", f"/-/../images?sql={asked}"]
    for path, page in zip(paths, site.get(*paths), strict=True):
        assert page.status_code in (403, 404) or "largest" in path, path
        assert not any(secret in page.text for secret in SECRETS)


def test_a_connection_reads_documents_only_for_a_view(demo: Path) -> None:
    async def ask(sql: str) -> Any:
        database = make_datasette(demo).get_database(DATABASE)
        try:
            return (await database.execute(sql)).rows
        finally:
            database.close()

    with pytest.raises(Exception, match=r"prohibited|not authorized"):
        asyncio.run(ask("SELECT document FROM documents"))
    assert len(asyncio.run(ask("SELECT * FROM config_list"))) == 8


LINK = re.compile(r'href="([^"]+)"')


def test_no_page_that_can_be_reached_shows_a_secret(site: Site) -> None:
    """Follow every link of every page, to JSON and CSV too, but each path only once."""
    seen: set[str] = set()
    waiting, shown = ["/"], 0
    while waiting:
        links: list[str] = []
        for page in site.get(*waiting):
            shown += page.status_code == 200
            assert not any(secret in page.text for secret in SECRETS), page.url
            links += map(unescape, LINK.findall(page.text))
        waiting = []
        for link in links:
            target = urlsplit(link)
            if not target.netloc and target.path.startswith(("/images", "/-/")) and target.path not in seen:
                seen.add(target.path)
                waiting.append(link)
    assert shown > 100


def test_ids_are_short_and_lead_to_what_they_name(site: Site) -> None:
    (page,) = site.get("/images/largest")
    link = f'<a href="/images/image_list?id__exact={quote(APP_2.id, safe="")}">'
    assert f'{link}<span class="digest" title="{APP_2.id}">{APP_2.id[7:19]}</span></a>' in page.text
    assert '<span title="32,930,497 bytes">32.9 MB</span>' in page.text


def test_a_link_leads_to_the_row(site: Site) -> None:
    (page,) = site.get("/images/largest")
    (link, *_) = (unescape(link) for link in LINK.findall(page.text) if "image_list?id__exact" in link)
    (rows,) = site.get(link.replace("?", ".json?_shape=array&"))
    assert len(json.loads(rows.text)) == 1


def test_a_store_that_is_written_meanwhile_is_shown_as_it_is(demo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(demo, copy)
    copy.chmod(0o600)
    site = Site(copy)
    with Store.open(copy) as store:
        store.delete(APP_2.id, "docker.io/library/app:v2")
        (rows,) = site.get("/images/reference_list.json?_shape=array")
    assert len(json.loads(rows.text)) == 8


def test_names_from_a_store_are_text_on_every_page(demo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(demo, copy)
    copy.chmod(0o600)
    evil = "<script>alert(1)</script>"
    with opened(copy) as connection:
        connection.execute("""UPDATE "references" SET name = ? WHERE name LIKE '%:v1'""", (evil,))
        connection.execute(
            "INSERT INTO reference_history (reference, image_id, pinned, event, at) VALUES (?, ?, 0, 'new', 0)",
            (evil, f'["{evil}"]'),
        )
    paths = ["/", *(f"/images/{name}" for name in (*views.tables, *named_queries()))]
    pages = Site(copy).get(*paths)
    assert [path for path, page in zip(paths, pages, strict=True) if evil in page.text] == []
    assert sum("&lt;script&gt;alert" in page.text for page in pages) > 10
