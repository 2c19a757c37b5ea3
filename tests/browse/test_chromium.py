"""The pages in a real browser, with the token that `imagekeep browse` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from imagekeep.named_queries import named_queries
from imagekeep.schema import views
from tests.chromium import browser
from tests.cli.test_named_queries import answer
from tests.demo_store import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browse.conftest import Served
    from tests.chromium import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tab(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that has opened the printed address."""
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        opened.open(f"{served.address}?token={served.token}")
        yield opened


ROWS = "[...document.querySelectorAll('table.rows-and-columns tbody tr')].length"
ERRORS = "document.querySelectorAll('.message-error').length"
WHOLE = "document.documentElement.outerHTML"


def test_the_printed_address_shows_the_front_page_without_the_token(tab: Browser, served: Served) -> None:
    tab.open(f"{served.address}?token={served.token}")
    assert tab.evaluate("location.href") == served.address
    assert tab.evaluate("document.querySelector('#images').innerText") == "8"
    assert tab.evaluate("document.querySelectorAll('#changes tbody tr').length") == 12
    assert tab.evaluate("document.querySelectorAll('ul.questions a').length") == 30
    assert tab.evaluate("document.querySelector('svg.growth').getBoundingClientRect().height") > 100
    assert tab.evaluate("document.cookie") == ""


@pytest.mark.parametrize("name", named_queries())
def test_each_question_shows_the_right_rows(tab: Browser, served: Served, demo: Path, name: str) -> None:
    query = named_queries()[name]
    tab.open(f"{served.address}images/{name}?{urlencode(query.values(query.example))}")
    expected = answer(demo, name, **query.example)
    assert (tab.evaluate(ERRORS), tab.evaluate(ROWS)) == (0, len(expected))
    assert tab.evaluate("document.querySelector('h1').innerText") == query.question
    assert not any(secret in tab.evaluate(WHOLE) for secret in SECRETS)


def test_a_question_is_reached_from_the_front_page_and_asked_with_a_value(
    tab: Browser, served: Served
) -> None:
    tab.open(served.address)
    link = tab.evaluate("[...document.links].find(a => a.pathname == '/images/latest-at').href")
    tab.open(link)
    fields = tab.evaluate("[...document.querySelectorAll('form.sql input[type=text]')].map(i => i.name)")
    assert fields == ["reference", "time"]
    tab.open(f"{link}?{urlencode({'reference': 'app:latest', 'time': ''})}")
    assert tab.evaluate(ROWS) == 1


@pytest.mark.parametrize("view", views.tables)
def test_each_view_opens_and_shows_no_secret(tab: Browser, served: Served, view: str) -> None:
    tab.open(f"{served.address}images/{view}")
    assert (tab.evaluate(ERRORS), tab.evaluate(ROWS) > 0) == (0, True)
    assert not any(secret in tab.evaluate(WHOLE) for secret in SECRETS)


def test_a_facet_narrows_a_view(tab: Browser, served: Served) -> None:
    tab.open(f"{served.address}images/image_list")
    tab.open(
        tab.evaluate(
            "[...document.querySelectorAll('.facet-info a')].find(a => a.innerText == 'partial').href"
        )
    )
    assert tab.evaluate(ROWS) == 1
    assert "ghcr.io/acme/tools:3" in tab.evaluate(
        "document.querySelector('table.rows-and-columns').innerText"
    )


def test_a_short_id_leads_to_its_image(tab: Browser, served: Served) -> None:
    tab.open(f"{served.address}images/largest")
    shown = tab.evaluate("document.querySelector('.digest').innerText")
    tab.open(tab.evaluate("document.querySelector('.digest').closest('a').href"))
    assert tab.evaluate(ROWS) == 1
    assert tab.evaluate("document.querySelector('.digest').title").startswith(f"sha256:{shown}")


def test_json_is_an_image_list(tab: Browser, served: Served) -> None:
    tab.open(f"{served.address}images/image_list.json?_shape=array")
    assert len(json.loads(tab.evaluate("document.body.innerText"))) == 8


def test_nothing_is_loaded_from_elsewhere(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    loaded = tab.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(served.address)] == []
