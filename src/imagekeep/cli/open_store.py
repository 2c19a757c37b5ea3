"""Opens the store with its source, for commands that need both."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagekeep.database.revision import exists
from imagekeep.errors import ImageNotFoundError
from imagekeep.internals import require_source
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.specifier import open_source
from imagekeep.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagekeep.cli.settings import Settings
    from imagekeep.sources.protocol import Source


@contextlib.contextmanager
def open_store(
    settings: Settings,
    *,
    dry_run: bool = False,
    before_creating: Callable[[Source], object] | None = None,
    example: str = "oci:DIRECTORY",
) -> Iterator[Store]:
    """Open the store with the source and platforms of the settings, creating it if it does not exist.

    Before creating one, `before_creating` is called with the source: if it raises, no empty store is left behind.
    With `dry_run`, a new store is created in a temporary directory. Raises click.UsageError, suggesting `example`,
    if no source is given, and as `open_source` and Store.open do.
    """
    if not settings.source:
        raise click.UsageError(f"no source given (add --source {example}, or set IMAGEKEEP_SOURCE)")
    source = open_source(settings.source, base_name=settings.base_name, namespace=settings.namespace)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(source))
        path = settings.path
        is_new = not exists(path)
        if is_new and before_creating:
            before_creating(source)
        if is_new and dry_run:
            # Imported here because daemons never need it.
            import tempfile

            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / path.name
        yield stack.enter_context(Store.open(path, source=source, platforms=settings.platforms or None))


def require_listing(source: Source) -> None:
    """Read the source's listing, to fail before a store is created; raises as `records` does."""
    for _ in source.records():
        pass


def spelling(store: Store, name: str) -> str:
    """Return a name unchanged if the store or the source has it, else its canonical form.

    Raises InvalidReferenceError, and as the source's `get` does.
    """
    for known in (store.resolve, require_source(store).get):
        with contextlib.suppress(ImageNotFoundError):
            known(name)
            return name
    return str(parse_docker_ref(name))
