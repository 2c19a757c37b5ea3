"""Commands, groups and the options they share.

The help of a command ends in examples, and a test runs each one. A group imports a command only to run it, so
that a command that only reads starts in milliseconds.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from imagekeep.cli.configuration import ConfiguredContext
from imagekeep.cli.output import write
from imagekeep.cli.pager import NO_PAGER
from imagekeep.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound="Callable[..., object]")


def _store(path: str) -> Path:
    """Return the store that --store names; an empty value means the default."""
    if path:
        return Path(path)
    from imagekeep.cli.settings import default_store

    return default_store()


ROW_FORMATS = ("table", "json", "jsonl", "yaml", "csv", "tsv")
"""The formats of every command that lists rows; the first is the default."""


class GlobalOption(NamedTuple):
    """An option accepted before and after the command's name; `field` is the field of Settings it sets."""

    flag: str
    field: str
    metavar: str
    help: str
    envvar: str
    default: Callable[[], str | None] | None = None
    multiple: bool = False

    def before_command(self) -> click.Option:
        """Return the option of the program itself."""
        return click.Option(
            [self.flag, self.field],
            metavar=self.metavar,
            help=self.help,
            envvar=self.envvar,
            show_envvar=True,
            default=self.default,
            multiple=self.multiple,
        )

    def after_command(self) -> click.Option:
        """Return the option of a command, which overrides the one before the command."""
        return click.Option(
            [self.flag, f"_{self.field}"],
            hidden=True,
            expose_value=False,
            callback=self._override,
            multiple=self.multiple,
        )

    def _override(
        self, context: click.Context, _option: click.Parameter, value: str | tuple[str, ...] | None
    ) -> None:
        if value is None or value == ():
            return
        if context.resilient_parsing:  # during completion there are no Settings
            context.find_root().params[self.field] = value
        else:
            given: dict[str, Any] = {self.field: _store(str(value)) if self.field == "path" else value}
            context.obj = context.obj._replace(**given)
            context.find_root().set_parameter_source(self.field, ParameterSource.COMMANDLINE)


GLOBAL_OPTIONS = (
    GlobalOption(
        "--store",
        "path",
        "PATH",
        "Store file.",
        "IMAGEKEEP_STORE",
    ),
    GlobalOption(
        "--source",
        "source",
        "SPEC",
        "Image source: oci:DIRECTORY, archive:FILE or containerd[:SOCKET].",
        "IMAGEKEEP_SOURCE",
        # The systemd units set it; the configuration file comes before it, unlike IMAGEKEEP_SOURCE.
        lambda: os.environ.get("IMAGEKEEP_DEFAULT_SOURCE"),
    ),
    GlobalOption(
        "--namespace",
        "namespace",
        "NAME",
        "containerd namespace; k8s.io by default.",
        "IMAGEKEEP_NAMESPACE",
    ),
    GlobalOption(
        "--base-name",
        "base_name",
        "NAME",
        "Repository for images that have only a tag.",
        "IMAGEKEEP_BASE_NAME",
    ),
    GlobalOption(
        "--platform",
        "platforms",
        "PLATFORM",
        "Platform to keep or ask about, or * for all; repeatable. By default the store's, at first the host's.",
        "IMAGEKEEP_PLATFORM",
        multiple=True,
    ),
)

no_heading = click.option("-n", "--noheading", "no_heading", is_flag=True, help="Omit the heading.")
no_truncation = click.option("--no-trunc", is_flag=True, help="Show full ids and digests.")


def filter_option(help_text: str, *short: str) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds --filter, which can be repeated; the parameter's name is `filters`."""
    return click.option(*short, "--filter", "filters", multiple=True, metavar="KEY=VALUE", help=help_text)


def row_format() -> Callable[[Decorated], Decorated]:
    """Return the option --output of a command that lists rows; `imagekeep.cli.rows` writes them."""
    return output_format(*ROW_FORMATS)


def output_format(*formats: str) -> Callable[[Decorated], Decorated]:
    """Return the option --output for these formats; the first is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def no_pager(*, hidden: bool = False) -> click.Option:
    """Return the option --no-pager, for the program and for each of its commands."""
    return click.Option(
        ["--no-pager"],
        is_flag=True,
        expose_value=False,
        callback=_leave_out_pager,
        hidden=hidden,
        help="Do not send long output to a pager.",
    )


def _leave_out_pager(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        context.meta[NO_PAGER] = True


class ExampleCommand(click.Command):
    """A command that shows examples at the end of its help and accepts the global options.

    Its own options, too, can be set in the configuration file.
    """

    context_class = ConfiguredContext

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples
        taken = {flag for parameter in self.params for flag in parameter.opts}
        self.params += [option.after_command() for option in GLOBAL_OPTIONS if option.flag not in taken]
        if "--no-pager" not in taken:
            self.params.append(no_pager(hidden=True))

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option --help, which raises OutputError; click's own raises bare OSErrors."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write the examples, each on one line however long it is."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.examples))


def _show_help(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        write(f"{context.get_help()}\n")
        context.exit()


def command(*examples: str) -> Callable[[Callable[..., int | None]], ExampleCommand]:
    """Make a command of a function whose docstring is the help; it returns an exit code, or None for 0."""
    return click.command(cls=ExampleCommand, examples=examples)


class Place(NamedTuple):
    """A command, as `module:name` under imagekeep.cli, and its one-line summary."""

    command: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.command.partition(":")
        loaded: click.Command = getattr(importlib.import_module(f"imagekeep.cli.{module}"), name)
        return loaded


class LazyGroup(ExampleCommand, click.Group):
    """A group made from a table of commands; it lists them in the table's order without importing them."""

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
        """Return the names in the order of the help."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """Import and return the command with this name, or return None."""
        found = self.table.get(self.aliases.get(cmd_name, cmd_name))
        return found.load() if isinstance(found, Place) else found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names; raises UsageError with a suggestion."""
        word = args[0]
        if self.get_command(ctx, word) or word.startswith("-") or ctx.resilient_parsing:
            name, found, rest = super().resolve_command(ctx, args)
            # Not the alias: the command's name is that of its table in the configuration file.
            return self.aliases.get(word, name), found, rest
        # Imported here because only a mistake needs it.
        from imagekeep.cli.suggestions import advise

        advice = advise(ctx.command_path, word, self.table)
        known = f"no such command: {printable(word)}"
        raise click.UsageError(f"{known} ({advice})" if advice else known, ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Return the matching commands, without importing them, and the matching options."""
        from click.shell_completion import CompletionItem

        matching = [(name, found) for name, found in self.table.items() if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=_summary(found)) for name, found in matching]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write the commands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(found)) for name, found in self.table.items()])


def _summary(found: Place | LazyGroup) -> str:
    return found.summary if isinstance(found, Place) else found.get_short_help_str(limit=100)
