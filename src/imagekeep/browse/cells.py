"""Shows a value in a cell: ids short, sizes readable, lists by line, and names as links to what they name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup, escape

from imagekeep.browse.growth import human

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = 12
"""Hexadecimal digits of a digest that are shown."""

_DIGEST = re.compile(r"(sha(?:256|384|512)):([0-9a-f]{64,128})")

_SIZE = re.compile(r"(.*_)?(size|bytes)(_.*)?|sizes_added_up")

_LINKS = {
    "image_id": ("image_list", "id"),
    "named_now": ("image_list", "id"),
    "replaced_by": ("image_list", "id"),
    "target_digest": ("platform_list", "target_digest"),
    "manifest_digest": ("layer_list", "manifest_digest"),
    "reference": ("reference_list", "reference"),
    "name": ("reference_list", "reference"),
    "registry": ("reference_list", "registry"),
    "repository": ("reference_list", "repository"),
    "chain_id": ("layer_list", "chain_id"),
}
"""The view, and its column, that a column's values lead to."""

_OF_TABLES = {
    ("image_list", "id"): ("content_list", "image_id"),
    ("config_list", "id"): ("image_list", "id"),
    ("layer_list", "digest"): ("layer_list", "digest"),
}
"""Where the values of these columns lead to."""

_YES, _NO = Markup("yes"), Markup("no")

_TRUTHS = ("attestation", "chosen", "in_use", "pinned", "present", "running", "unpacked")


def render(
    value: object, column: str, table: str | None, database: str, path: Callable[[str], str]
) -> Markup | None:
    """Return what a cell shows, or None for the value itself; `path` makes a path of the site."""
    if isinstance(value, int) and _SIZE.fullmatch(column):
        return Markup('<span title="{} bytes">{}</span>').format(f"{value:,}", human(value))
    if column in _TRUTHS and value in (0, 1) and table != "usage_list":
        return _YES if value else _NO
    if not isinstance(value, str):
        return None
    if value.startswith("["):
        return _lines(value)
    link = _OF_TABLES.get((table or "", column)) or _LINKS.get(column)
    shown = _shorten(value)
    if link is None or not value:
        return shown
    view, key = link
    address = path(f"/{database}/{view}?{urlencode({f'{key}__exact': value})}")
    return Markup('<a href="{}">{}</a>').format(address, shown if shown is not None else value)


def _shorten(value: str) -> Markup | None:
    """Return a digest in short, with the whole one as its title; None for another text."""
    matched = _DIGEST.fullmatch(value)
    if matched is None:
        return None
    return Markup('<span class="digest" title="{}">{}</span>').format(value, matched[2][:SHORT])


def _lines(value: str) -> Markup | None:
    """Return a JSON list with each element on a line; None if it is not JSON."""
    try:
        elements = json.loads(value)
    except ValueError:
        return None
    texts = [each if isinstance(each, str) else json.dumps(each) for each in elements]
    return Markup("<br>").join(escape(text) for text in texts)
