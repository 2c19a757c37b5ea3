"""The options that every command takes, before its name or after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


class GlobalOption(NamedTuple):
    """One such option: its name, the field of Settings that it sets, and what the help says of it."""

    flag: str
    field: str
    metavar: str
    help: str
    envvar: str | None = None

    def before_command(self) -> click.Option:
        """Return the option as the program itself takes it."""
        return click.Option(
            [self.flag, self.field],
            metavar=self.metavar,
            help=self.help,
            envvar=self.envvar,
            show_envvar=True,
        )

    def after_command(self) -> click.Option:
        """Return the option as a command takes it: it replaces what was given before the command."""
        return click.Option(
            [self.flag, f"_{self.field}"], hidden=True, expose_value=False, callback=self._override
        )

    def _override(self, context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is None:
            return
        if context.resilient_parsing:  # a shell completes the line, and no Settings are made
            context.find_root().params[self.field] = value
        else:
            given: dict[str, Any] = {self.field: Path(value) if self.field == "path" else value}
            context.obj = context.obj._replace(**given)


GLOBAL_OPTIONS = (
    GlobalOption(
        "--store",
        "path",
        "PATH",
        "Store file; by default /var/lib/imagekeep/images.db for root, and imagekeep/images.db in the user's data "
        "directory for others.",
        "IMAGEKEEP_STORE",
    ),
    GlobalOption(
        "--source",
        "source",
        "SPEC",
        "Image source: oci:DIRECTORY, archive:FILE (- is standard input) or containerd[:SOCKET].",
        "IMAGEKEEP_SOURCE",
    ),
    GlobalOption(
        "--namespace",
        "namespace",
        "NAME",
        "Namespace in containerd; by default k8s.io.",
        "IMAGEKEEP_NAMESPACE",
    ),
    GlobalOption("--base-name", "base_name", "NAME", "Repository for images that have only a tag."),
    GlobalOption(
        "--platform",
        "platform",
        "PLATFORM",
        "Platform to select from a multi-platform image; by default the host's.",
    ),
)


def options_after(command: click.Command) -> Iterator[click.Option]:
    """Yield the global options that a command has not defined itself, as it takes them."""
    taken = {flag for parameter in command.params for flag in parameter.opts}
    return (option.after_command() for option in GLOBAL_OPTIONS if option.flag not in taken)
