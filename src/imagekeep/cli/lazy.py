"""A group of commands that are imported when they are run.

A command that only reads starts in milliseconds because it imports nothing that another one needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from imagekeep.cli.command import ExampleCommand
from imagekeep.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem


class Place(NamedTuple):
    """Where a command is, as `module:name` beneath imagekeep.cli, and what it does, in one line."""

    command: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.command.partition(":")
        loaded: click.Command = getattr(importlib.import_module(f"imagekeep.cli.{module}"), name)
        return loaded


class LazyGroup(ExampleCommand, click.Group):
    """A group made from a table of commands; it lists them, in the table's order, without importing them."""

    def __init__(
        self,
        *arguments: Any,
        table: Mapping[str, Place | LazyGroup],
        aliases: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.table = table
        self.aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        """Return the names, in the order in which the help shows them."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """Return the command of a name, imported now, or None."""
        found = self.table.get(self.aliases.get(cmd_name, cmd_name))
        return found.load() if isinstance(found, Place) else found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names; if none, say what to type instead."""
        word = args[0]
        if self.get_command(ctx, word) or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        # Imported here because only a mistake needs it.
        from imagekeep.cli.suggestions import advise

        advice = advise(ctx.command_path, word, self.table)
        known = f"no such command: {printable(word)}"
        raise click.UsageError(f"{known} ({advice})" if advice else known, ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Return the commands that begin so, with their summaries and without importing them, and the options."""
        from click.shell_completion import CompletionItem

        fitting = [(name, found) for name, found in self.table.items() if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=_summary(found)) for name, found in fitting]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write the list of commands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(found)) for name, found in self.table.items()])


def _summary(found: Place | LazyGroup) -> str:
    return found.summary if isinstance(found, Place) else found.get_short_help_str(limit=100)
