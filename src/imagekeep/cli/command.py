"""The kind of command that all are: its help ends in examples, and a test runs every one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.global_options import options_after
from imagekeep.cli.output import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ExampleCommand(click.Command):
    """A command with examples, shown at the end of its help, which takes the global options after its name too."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples
        self.params += options_after(self)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option --help, which writes as every command does: click's own way raises bare OSErrors."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write the examples, each on a line of its own however long it is."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.examples))


def _show_help(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Write the help, and end."""
    if asked and not context.resilient_parsing:
        write(f"{context.get_help()}\n")
        context.exit()


def command(*examples: str) -> Callable[[Callable[..., int | None]], ExampleCommand]:
    """Make a command of a function: its help is the docstring, and its examples are these.

    What the function returns is the exit code, None being 0.
    """
    return click.command(cls=ExampleCommand, examples=examples)
