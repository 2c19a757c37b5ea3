"""`imagekeep image rm`, `untag`, `pin` and `unpin`, which change the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.exit_codes import ExitCode, exit_code
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.open_store import open_store, require_listing
from imagekeep.cli.output import print_error, write_line
from imagekeep.cli.stored_names import complete_images, complete_references
from imagekeep.errors import (
    AmbiguousError,
    ImageNotFoundError,
    ImagePinnedError,
    InvalidArgumentError,
)
from imagekeep.image_actions import Actions
from imagekeep.sources.protocol import require_changeable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from imagekeep.cli.settings import Settings
    from imagekeep.image_actions import ActionResult
    from imagekeep.sources.protocol import Source

_NAME_ERRORS = (AmbiguousError, ImageNotFoundError, ImagePinnedError, InvalidArgumentError)
"""Errors of one name, which do not stop the others."""

_ignore = click.option("--ignore", is_flag=True, help="Ignore images that do not exist.")
_all_references = click.option(
    "--all", "all_references", is_flag=True, help="Apply to every reference of the image."
)
_references = click.argument(
    "references", metavar="REF...", nargs=-1, required=True, shell_complete=complete_references
)


@command(
    "imagekeep --source containerd image rm busybox:1.35",
    "imagekeep --source containerd image rm --ignore busybox:1.35 busybox:1.36",
)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete_images)
@_ignore
@click.option("-f", "--force", is_flag=True, help="Remove pinned images too.")
@click.pass_obj
def remove_images(settings: Settings, images: tuple[str, ...], ignore: bool, force: bool) -> int:
    """Remove images and all their references from the source.

    Waits until unreferenced content has been collected. A pinned image is removed only with --force; otherwise the
    exit code is 4.
    """
    return _act(settings, images, lambda actions, name: actions.remove(name, force=force), ignore=ignore)


@command("imagekeep --source containerd image untag busybox:1.36")
@_references
@_ignore
@click.option("-f", "--force", is_flag=True, help="Remove references that pin their image too.")
@click.pass_obj
def untag_references(settings: Settings, references: tuple[str, ...], ignore: bool, force: bool) -> int:
    """Remove references from the source.

    An image is deleted with its last reference.
    """
    return _act(settings, references, lambda actions, name: actions.untag(name, force=force), ignore=ignore)


@command(
    "imagekeep --source containerd image pin busybox:1.35",
    "imagekeep --source containerd image pin --all busybox:1.35",
)
@_references
@_all_references
@click.pass_obj
def pin_references(settings: Settings, references: tuple[str, ...], all_references: bool) -> int:
    """Pin images to exempt them from garbage collection.

    Sets the label io.cri-containerd.pinned on the references.
    """
    return _act(settings, references, lambda actions, name: actions.pin(name, all_references=all_references))


@command("imagekeep --source containerd image unpin --all busybox:1.36")
@_references
@_all_references
@click.pass_obj
def unpin_references(settings: Settings, references: tuple[str, ...], all_references: bool) -> int:
    """Unpin images.

    containerd pins the images in its configuration again at once; the exit code is then 4.
    """
    return _act(
        settings, references, lambda actions, name: actions.unpin(name, all_references=all_references)
    )


def _act(
    settings: Settings,
    names: Iterable[str],
    action: Callable[[Actions, str], object],
    *,
    ignore: bool = False,
) -> ExitCode:
    """Run the action for each name, printing its results; return the exit code of the first error."""
    code = ExitCode.OK
    with open_store(settings, before_creating=require_changeable_listing, example="containerd") as store:
        actions = Actions.begin(store, print_result)
        for name in names:
            try:
                with suggesting(name, store.references):
                    action(actions, name)
            except _NAME_ERRORS as error:
                if ignore and isinstance(error, ImageNotFoundError):
                    continue
                print_error(str(error))
                code = code or exit_code(error)
    return code


def require_changeable_listing(source: Source) -> None:
    """Raise ReadOnlySourceError for a source that cannot be changed, and as `require_listing` does."""
    require_listing(require_changeable(source))


def print_result(result: ActionResult) -> None:
    """Write what an action did."""
    write_line(f"{result.action.capitalize()}: {result.name}")
