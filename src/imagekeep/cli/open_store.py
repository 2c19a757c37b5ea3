"""The store together with its source: for the commands that ask the one about the other."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.database.revision import exists
from imagekeep.errors import ImageNotFoundError
from imagekeep.platform import Platform
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.specifier import open_source
from imagekeep.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.cli.settings import Settings


@contextlib.contextmanager
def open_store(settings: Settings, *, dry_run: bool = False) -> Iterator[Store]:
    """Open the store with the source and platform of the settings, making the file where there is none.

    With `dry_run` a store that is not there yet is made somewhere else, and is gone in the end. Raises
    click.UsageError where no source is named, and as `open_source` and Store.open do.
    """
    if not settings.source:
        raise click.UsageError("no source is named; give --source oci:DIRECTORY, or set IMAGEKEEP_SOURCE")
    platform = Platform.parse(settings.platform) if settings.platform else Platform.host()
    source = open_source(settings.source, base_name=settings.base_name, namespace=settings.namespace)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(source))
        path = settings.path
        if dry_run and not exists(path):
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
        yield stack.enter_context(Store.open(path, source=source, platform=platform))


def spelling(store: Store, name: str) -> str:
    """Return the reference that a name stands for: itself where store or source has it so, else its normal form.

    Raises InvalidReferenceError, and as the source's `get` does where it cannot answer.
    """
    for known in (store.resolve, store.require_source().get):
        with contextlib.suppress(ImageNotFoundError):
            known(name)
            return name
    return str(parse_docker_ref(name))
