"""The configuration file, in TOML, with the options' own names.

::

    source = "containerd"              a global option

    [serve]                            the options of a command
    metrics = "127.0.0.1:9323"

    [db.migrate]                       of a command in a group
    dry-run = true

An option on the command line comes first, then the environment, then this file, then the default: click's own order
for `Context.lookup_default`. A table is checked when its command runs, because checking it means importing the
command; `imagekeep config show` checks all.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from imagekeep.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    UnavailableError,
    UntrustedFileError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SYSTEM_CONFIGURATION = Path("/etc/imagekeep/imagekeep.toml")

VARIABLE = "IMAGEKEEP_CONFIG"
"""The variable that names another file."""

BYTES_MAX = 1 << 20

_KEPT = "imagekeep.configuration"
"""The key of the file in click's `Context.meta`."""


class Configuration(NamedTuple):
    """The configuration file's path and content; without a file, None and nothing."""

    path: Path | None
    values: Mapping[str, Any]

    def table(self, words: Iterable[str]) -> Mapping[str, Any]:
        """Return the table of the command that these words name; empty if the file has none."""
        found: Any = self.values
        for word in words:
            found = found.get(word, {})
            if not isinstance(found, dict):
                return {}
        return found  # type: ignore[no-any-return]

    def invalid(self, reason: str) -> InvalidArgumentError:
        """Return an error about the file."""
        return InvalidArgumentError(f"{printable(self.path)}: {reason}")


def read_configuration() -> Configuration:
    """Read the file that IMAGEKEEP_CONFIG names, or the system's if there is one.

    Raises InvalidArgumentError if it is not TOML, UntrustedFileError if everyone may write to it,
    PermissionDeniedError, and UnavailableError if it cannot be read.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else SYSTEM_CONFIGURATION
    try:
        with path.open("rb") as file:
            _require_trusted(path, os.fstat(file.fileno()))
            content = file.read(BYTES_MAX + 1)
    except PermissionError as error:
        advice = f"run as root, or set {VARIABLE}=/dev/null to ignore it"
        raise PermissionDeniedError(f"permission denied: {printable(path)} ({advice})") from error
    except OSError as error:
        if not named and isinstance(error, FileNotFoundError | NotADirectoryError):
            return Configuration(None, {})
        raise UnavailableError(f"cannot read configuration {printable(path)}: {error.strerror}") from error
    return Configuration(path, _parse(path, content))


def _require_trusted(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
        raise UntrustedFileError(f"{printable(path)}: everyone may write to it (chmod o-w {printable(path)})")


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    # Imported here because most machines have no file to parse.
    import tomllib

    if len(content) > BYTES_MAX:
        raise InvalidArgumentError(f"{printable(path)}: larger than {BYTES_MAX >> 20} MiB")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{printable(path)}: not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidArgumentError(f"{printable(path)}: not valid TOML: {printable(str(error))}") from error


class ConfiguredContext(click.Context):
    """Takes defaults from the configuration file; raises as `read_configuration` and `option_values` do."""

    _defaults: Mapping[str, Any] | None = None

    def lookup_default(self, name: str, call: bool = True) -> Any:  # noqa: ARG002 (click's)
        """Return the file's value for a parameter, or None; ignore a wrong file during completion."""
        if self._defaults is None:
            try:
                self._defaults = option_values(configuration(self), words(self), self.command)
            except (InvalidArgumentError, PermissionDeniedError, UnavailableError, UntrustedFileError):
                if not self.resilient_parsing:
                    raise
                self._defaults = {}
        return self._defaults.get(name)


def configuration(context: click.Context) -> Configuration:
    """Return the configuration, read once per program."""
    if _KEPT not in context.meta:
        context.meta[_KEPT] = read_configuration()
    found: Configuration = context.meta[_KEPT]
    return found


def words(context: click.Context) -> tuple[str, ...]:
    """Return the words of a command after the program's name."""
    if context.parent is None:
        return ()
    return (*words(context.parent), context.info_name or "")


def configurable_options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command that the file may set, by their names in it."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    return {key_of(each): each for each in options if each.expose_value and not each.hidden}


def key_of(option: click.Option) -> str:
    """Return the name of an option in the file: `socket-mode` for `--socket-mode`."""
    return max(option.opts, key=len).lstrip("-")


def option_values(configured: Configuration, path: tuple[str, ...], command: click.Command) -> dict[str, Any]:
    """Return what the file sets for a command, by parameter name.

    Raises InvalidArgumentError for a key that is neither an option nor a command, and for a value of a wrong type.
    """
    table = configured.table(path)
    options = configurable_options(command)
    commands = getattr(command, "table", {})
    values: dict[str, Any] = {}
    for key, value in table.items():
        dotted = _dotted(path, key)
        if key in commands:
            if not isinstance(value, dict):
                raise configured.invalid(f"'{printable(dotted)}' must be a table: it is a command")
        elif key in options:
            if (expected := wrong_type(options[key], value)) is not None:
                raise configured.invalid(f"'{printable(dotted)}' must be {expected}")
            is_one = options[key].multiple and not isinstance(value, list)
            values[str(options[key].name)] = [value] if is_one else value
        else:
            raise configured.invalid(_unknown(dotted, [*options, *commands], path))
    return values


def wrong_type(option: click.Option, value: Any) -> str | None:
    """Return the TOML type that an option needs if the value has another, else None.

    A number is not taken for text: `socket-mode = 0o660` would be the mode 0432.
    """
    if not option.multiple:
        return _wrong_scalar(option, value)
    each = value if isinstance(value, list) else [value]
    return "a string or an array of strings" if any(_wrong_scalar(option, one) for one in each) else None


def _wrong_scalar(option: click.Option, value: Any) -> str | None:
    if option.is_flag:
        return None if isinstance(value, bool) else "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return None if type(value) is int else "an integer"
    if isinstance(option.type, click.types.FloatParamType):
        return None if type(value) in (int, float) else "a number"
    return None if isinstance(value, str) else "a string"


def _unknown(dotted: str, siblings: Iterable[str], path: tuple[str, ...]) -> str:
    """Return the message for an unknown key, with the nearest known one."""
    # Imported here because only a mistake needs it.
    import difflib

    word = dotted.rpartition(".")[2]
    near = difflib.get_close_matches(word, siblings, n=1)
    found = _dotted(path, near[0]) if near else _elsewhere(word)
    advice = f" (did you mean {found!r}?)" if found else ""
    return f"unknown key '{printable(dotted)}'{advice}"


def _elsewhere(word: str) -> str | None:
    """Return the dotted key of an option with this name, of whatever command, or None."""
    # Imported here because only a mistake needs every command.
    from imagekeep.cli.root import root

    found = (path for path, command in all_commands(root) if word in configurable_options(command))
    return next((_dotted(path, word) for path in found), None)


def all_commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and those beneath it, with their words; leave out those that lack an optional package."""
    yield path, command
    for word, place in getattr(command, "table", {}).items():
        with contextlib.suppress(ImportError):
            loaded = place.load() if hasattr(place, "load") else place
            yield from all_commands(loaded, (*path, word))


def explain(error: click.UsageError) -> str | None:
    """Return the message for a value of the file that click refuses, or None for another error.

    click would name the option, which the user did not type.
    """
    context, option = error.ctx, getattr(error, "param", None)
    if context is None or not isinstance(option, click.Option) or option.name is None:
        return None
    if context.get_parameter_source(option.name) is not click.core.ParameterSource.DEFAULT_MAP:
        return None
    key = _dotted(words(context), key_of(option))
    return str(configuration(context).invalid(f"invalid value of {key!r}: {error.message}"))


def _dotted(path: tuple[str, ...], key: str) -> str:
    return ".".join((*path, key))
