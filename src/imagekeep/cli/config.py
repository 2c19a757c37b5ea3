"""`imagekeep config`."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from imagekeep.cli.command import command, no_heading, output_format
from imagekeep.cli.configuration import (
    ConfiguredContext,
    all_commands,
    configurable_options,
    configuration,
    key_of,
)
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import table
from imagekeep.cli.output import write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.cli.configuration import Configuration
    from imagekeep.cli.settings import Settings

SERVICES = (("watch",), ("serve",))
"""Commands whose options are always shown."""

_HEADING = ("OPTION", "VALUE", "FROM")

_SECRET_NAME = re.compile("password|passphrase|secret|token", re.IGNORECASE)
_SECRETS = (
    re.compile(r"(?<=://)(?P<before>[^/@:\s]*:)\S*(?=@)"),
    re.compile(
        r"(?P<before>\b(?:password|passphrase|secret|token)\s*=\s*)(?:'(?:\\.|[^'])*'|[^\s&;]+)",
        re.IGNORECASE,
    ),
)
"""The password of a URL, and those of its parameters or of a connection string (libpq, 33.1.1)."""

HIDDEN = "********"


class Setting(NamedTuple):
    """An option's name in the file, its effective value without secrets, and where that is from."""

    key: str
    value: str | bool | int | float | list[str] | None
    origin: str


@command("imagekeep config show", "imagekeep config show -o json")
@click.option("--all", "everything", is_flag=True, help="Show the options of every command.")
@output_format("table", "json", "yaml")
@no_heading
@click.pass_context
def show_configuration(context: click.Context, everything: bool, output: str, no_heading: bool) -> None:
    """Show the effective options, and where each is from.

    Shows the global options, those of the services, and those of every command that the configuration file sets.
    Passwords are hidden. An option of the command line overrides the environment, which overrides the file.
    """
    root = context.find_root()
    settings = [*_global_settings(root, context.obj), *_command_settings(root, everything=everything)]
    if output == "table":
        write_all(table([*([] if no_heading else [_HEADING]), *map(_row, settings)]))
    else:
        path = configuration(root).path
        document = {"file": path and str(path), "options": [each._asdict() for each in settings]}
        write_document(document, output)


def hide_secrets(key: str, value: str) -> str:
    """Return a value with its passwords replaced, or HIDDEN if the option as a whole is a secret."""
    if value and _SECRET_NAME.search(key):
        return HIDDEN
    for secret in _SECRETS:
        value = secret.sub(lambda found: f"{found['before']}{HIDDEN}", value)
    return value


def _global_settings(root: click.Context, settings: Settings) -> Iterator[Setting]:
    configured = configuration(root)
    for key, option in configurable_options(root.command).items():
        value = getattr(settings, option.name or "") or _implied(key, settings)
        yield Setting(key, _shown(key, value), _origin(root, option, configured))


def _implied(key: str, settings: Settings) -> str | None:
    """Return what an option that is not set comes to."""
    if key == "namespace" and (settings.source or "").partition(":")[0] == "containerd":
        with contextlib.suppress(ImportError):  # gRPC is an extra
            from imagekeep.sources.containerd import DEFAULT_NAMESPACE

            return DEFAULT_NAMESPACE
    return None


def _command_settings(root: click.Context, *, everything: bool) -> Iterator[Setting]:
    """Yield the options of the chosen commands; raises as their own checks do."""
    configured = configuration(root)
    for path, each in all_commands(root.command):
        if not path:
            continue
        context = _context_of(root, path, each)
        context.lookup_default("")  # checks the table, also that of a group
        if not (everything or path in SERVICES or configured.table(path)):
            continue
        for option in configurable_options(each).values():
            yield _setting(context, path, option, configured)


def _context_of(root: click.Context, path: tuple[str, ...], each: click.Command) -> click.Context:
    context = root
    for word in path:
        context = ConfiguredContext(each, parent=context, info_name=word)
    return context


def _setting(
    context: click.Context, path: tuple[str, ...], option: click.Option, configured: Configuration
) -> Setting:
    value, source = option.consume_value(context, {})
    context.set_parameter_source(option.name or "", source)
    if source is ParameterSource.DEFAULT_MAP:
        # As the command itself would check it; what is shown is the value as it was given.
        with click.core.augment_usage_errors(context, param=option):
            option.process_value(context, value)
    key = ".".join((*path, key_of(option)))
    return Setting(key, _shown(key, value), _origin(context, option, configured))


def _origin(context: click.Context, option: click.Option, configured: Configuration) -> str:
    source = context.get_parameter_source(option.name or "")
    if source is ParameterSource.COMMANDLINE:
        return "command line"
    if source is ParameterSource.ENVIRONMENT:
        return str(option.envvar)
    return str(configured.path) if source is ParameterSource.DEFAULT_MAP else "default"


def _shown(key: str, value: Any) -> str | bool | int | float | list[str] | None:
    """Return a value as JSON has it; None for an option that is not set."""
    if isinstance(value, list | tuple):
        return [hide_secrets(key, str(each)) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    # click's own mark for no value is not public.
    return None if type(value).__module__.startswith("click") else hide_secrets(key, str(value))


def _row(setting: Setting) -> tuple[str, str, str]:
    value = setting.value
    if value is None or value == "":
        text = "-"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = ", ".join(value) if isinstance(value, list) else str(value)
    return setting.key, text, setting.origin
