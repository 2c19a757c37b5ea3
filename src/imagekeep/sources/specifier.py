"""Where images are, in one word: `oci:FOLDER`, `archive:FILE`, or `archive:-` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imagekeep.errors import InvalidArgumentError, shorten
from imagekeep.sources.archive import Archive
from imagekeep.sources.layout import OCILayout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagekeep.platform import PlatformMatcher
    from imagekeep.sources import Source

STANDARD_INPUT_MARK = "-"


class Opener(Protocol):
    """Makes a source of what follows the scheme and its colon, empty where there is no colon."""

    def __call__(self, place: str, *, base_name: str | None, matcher: PlatformMatcher | None) -> Source:
        """Return the source; raises InvalidArgumentError for a place that is none."""
        ...


def open_source(spec: str, *, base_name: str | None = None, matcher: PlatformMatcher | None = None) -> Source:
    """Return the source that `spec` names; nothing is read yet, but for standard input.

    `base_name` is the repository of images that have only a tag; `matcher` chooses the platform that image
    ids are of, by default the host's. Raises InvalidArgumentError for an unknown scheme, listing the known
    ones, and as the source's constructor does.
    """
    scheme, _, place = spec.partition(":")
    opener = SCHEMES.get(scheme)
    if opener is None:
        known = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        raise InvalidArgumentError(f"{shorten(spec)} names no source; sources begin with one of: {known}")
    return opener(place, base_name=base_name, matcher=matcher)


def _open_layout(place: str, *, base_name: str | None, matcher: PlatformMatcher | None) -> Source:
    """Open `oci:FOLDER`."""
    return OCILayout(_path(place, "oci:FOLDER"), base_name=base_name, matcher=matcher)


def _open_archive(place: str, *, base_name: str | None, matcher: PlatformMatcher | None) -> Source:
    """Open `archive:FILE`, or `archive:-`."""
    if place != STANDARD_INPUT_MARK:
        return Archive(_path(place, "archive:FILE"), base_name=base_name, matcher=matcher)
    if sys.stdin is None:
        raise InvalidArgumentError("archive:- reads standard input, which is closed; pipe an archive into it")
    if sys.stdin.isatty():
        raise InvalidArgumentError(
            "archive:- reads standard input, which is a terminal; pipe an archive into it"
        )
    return Archive(sys.stdin.buffer, base_name=base_name, matcher=matcher)


def _path(place: str, form: str) -> Path:
    """Return the path in a specifier."""
    if not place or "\0" in place:
        raise InvalidArgumentError(f"a source of this kind is given as {form}, with a path")
    return Path(place)


SCHEMES: Mapping[str, Opener] = {"oci": _open_layout, "archive": _open_archive}
"""Every kind of source by its scheme: a further one is a module beside this, and a line here."""
