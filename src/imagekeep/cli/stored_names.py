"""Shell completions of references and image ids from the store."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.cli.settings import Settings, default_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from imagekeep.image import ImageSummary

MAX_COMPLETIONS = 500

FAMILIAR = "docker.io/library/"
"""A reference's prefix that can be omitted."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
"""Words without shell metacharacters: a store may hold any name, and a shell would run `$(...)`."""


def complete_images(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the matching references, and ids if one was begun."""
    return _complete(context, incomplete, ids=True)


def complete_references(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the matching references."""
    return _complete(context, incomplete, ids=False)


def _complete(context: click.Context, incomplete: str, *, ids: bool) -> list[str]:
    path = context.find_root().params.get("path")
    with Settings(Path(path) if path else default_store()).open_reader() as reader:
        words = (word for image in reader.summaries() for word in _words(image, incomplete, ids=ids))
        fitting = (word for word in words if word.startswith(incomplete) and _SAFE.fullmatch(word))
        return sorted(set(islice(fitting, MAX_COMPLETIONS)))


def _words(image: ImageSummary, incomplete: str, *, ids: bool) -> Iterator[str]:
    """Yield the names of an image; a long form only if it was begun."""
    for reference in image.references:
        familiar = reference.removeprefix(FAMILIAR)
        yield reference if incomplete and not familiar.startswith(incomplete) else familiar
    if ids and incomplete:
        yield image.id
        yield image.id.removeprefix("sha256:")
