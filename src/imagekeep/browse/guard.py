"""Lets in only requests with the token, and only by a loopback name, in front of an ASGI application.

Other users of the host can connect to a loopback port, so the page needs a token. A page of another site can make a
browser send requests to it under that site's name (DNS rebinding), so the name is checked too.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Application = Callable[
        [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any
    ]

PARAMETER = "token"
"""The parameter of the printed URL."""

COOKIE = "imagekeep_token"

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""Added to every reply."""


def guarded(application: Application, token: str | None) -> Application:
    """Return the application behind the checks; without a token only the name is checked."""

    async def check(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        query = scope["query_string"].decode("latin-1")
        if not is_loopback(headers.get("host", "")):
            await _reply(send, 421, "open this page by the name 127.0.0.1 or localhost\n")
        elif token is not None and _matches(dict(parse_qsl(query)).get(PARAMETER, ""), token):
            await _let_in(send, scope["path"], query, token)
        elif token is None or _is_known(headers, token):
            await application(scope, receive, _with_headers(send))
        else:
            await _reply(send, 403, "open the URL that `imagekeep browse` printed: it has the token\n")

    return check


def is_loopback(host: str) -> bool:
    """Return whether a Host header names this machine's loopback address, with any port."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in LOOPBACK


def _is_known(headers: Mapping[str, str], token: str) -> bool:
    """Return whether a request has the token, in its cookie or as `Authorization: Bearer`."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    bearer = headers.get("authorization", "").partition("Bearer ")[2]
    return any(_matches(given, token) for given in (cookie.value if cookie else "", bearer))


def _matches(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


async def _let_in(send: Any, path: str, query: str, token: str) -> None:
    """Set the cookie, and redirect to the same page without the token in its address."""
    rest = urlencode([(name, value) for name, value in parse_qsl(query) if name != PARAMETER])
    # A path such as //host would be an address of another site.
    location = "/" + path.lstrip("/") + (f"?{rest}" if rest else "")
    cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
    headers = [(b"location", location.encode("latin-1", "replace")), (b"set-cookie", cookie.encode())]
    await _reply(send, 303, "", headers)


async def _reply(send: Any, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    fields = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS, *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})


def _with_headers(send: Any) -> Any:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *HEADERS]}
        await send(message)

    return send_with_headers
