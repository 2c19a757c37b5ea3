"""`imagekeep image exists`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import command
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.stored_names import complete_images
from imagekeep.errors import ImageNotFoundError

if TYPE_CHECKING:
    from imagekeep.cli.settings import Settings


@command("imagekeep image exists busybox:1.36")
@click.argument("image", shell_complete=complete_images)
@click.pass_obj
def image_exists(settings: Settings, image: str) -> int:
    """Tell by the exit code whether an image is here.

    0 is yes and 1 is no; nothing is printed.
    """
    with settings.open_reader() as reader:
        try:
            reader.find(image)
        except ImageNotFoundError:
            return ExitCode.NOT_FOUND
    return ExitCode.OK
