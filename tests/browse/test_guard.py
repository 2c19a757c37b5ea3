"""Who may read the page: only who has the token, and only by a loopback name."""

from __future__ import annotations

import http.client
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.cli.session import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browse.conftest import Served


class Reply(NamedTuple):
    """A reply without its body."""

    status: int
    headers: http.client.HTTPMessage


def ask(served: Served, path: str, **headers: str) -> Reply:
    """Send one request, as the server's address unless a header says otherwise."""
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=60)
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        reply = connection.getresponse()
        reply.read()
        return Reply(reply.status, reply.headers)
    finally:
        connection.close()


PATHS = [
    "/",
    "/images",
    "/images/image_list.json",
    "/images/largest",
    "/-/metadata.json",
    "/-/static/app.css",
]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(served: Served, path: str) -> None:
    assert ask(served, path).status == 403
    assert ask(served, f"{path}?token=wrong").status == 403
    assert ask(served, path, Cookie="imagekeep_token=wrong").status == 403
    assert ask(served, path, Authorization=f"Basic {served.token}").status == 403


@pytest.mark.parametrize("path", PATHS)
def test_the_token_is_accepted_as_cookie_and_as_bearer(served: Served, path: str) -> None:
    assert ask(served, path, Cookie=f"other=1; imagekeep_token={served.token}").status == 200
    assert ask(served, path, Authorization=f"Bearer {served.token}").status == 200


def test_the_token_in_the_address_becomes_a_cookie(served: Served) -> None:
    reply = ask(served, f"/images/image_list?state=partial&token={served.token}")
    assert (reply.status, reply.headers["location"]) == (303, "/images/image_list?state=partial")
    cookie = f"imagekeep_token={served.token}; HttpOnly; SameSite=Strict; Path=/"
    assert reply.headers["set-cookie"] == cookie


def test_the_token_never_leads_to_another_site(served: Served) -> None:
    assert ask(served, f"//evil.example/?token={served.token}").headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"]
)
def test_another_name_is_refused_even_with_the_token(served: Served, host: str) -> None:
    assert ask(served, "/", Host=host, Authorization=f"Bearer {served.token}").status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:80"])
def test_every_loopback_name_is_accepted(served: Served, host: str) -> None:
    assert ask(served, "/-/versions.json", Host=host, Authorization=f"Bearer {served.token}").status == 200


def test_a_page_cannot_be_framed(served: Served) -> None:
    headers = ask(served, "/", Authorization=f"Bearer {served.token}").headers
    assert (headers["content-security-policy"], headers["referrer-policy"]) == (
        "frame-ancestors 'none'",
        "no-referrer",
    )


def test_a_port_in_use_is_an_error(served: Served, demo: Path) -> None:
    port = str(urlsplit(served.address).port)
    ended = subprocess.run(
        [sys.executable, "-m", "imagekeep", "--store", demo, "browse", "--port", port],
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (125, "")
    assert ended.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
