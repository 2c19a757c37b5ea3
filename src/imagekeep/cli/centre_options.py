"""The options that name a fleet's centre."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from imagekeep.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from imagekeep.fleet.questions import Fleet

Decorated = TypeVar("Decorated", bound="Callable[..., object]")

ENVIRONMENT = "IMAGEKEEP_FLEET"


def to_option(function: Decorated) -> Decorated:
    """Add the option --to to a command."""
    return click.option(
        "--to",
        "url",
        metavar="URL",
        envvar=ENVIRONMENT,
        show_envvar=True,
        help="Centre: postgresql://[ROLE@]HOST/DATABASE.",
    )(function)


def credentials_option(function: Decorated) -> Decorated:
    """Add the option --credentials to a command."""
    return click.option(
        "--credentials",
        metavar="FILE",
        envvar="IMAGEKEEP_FLEET_CREDENTIALS",
        show_envvar=True,
        help="Credential file of `imagekeep fleet enroll`, mode 0600.",
    )(function)


def centre_parameters(url: str | None, credentials: str | None = None) -> dict[str, str]:
    """Return the connection parameters that the options name; raises InvalidArgumentError.

    The file's parameters replace the URL's. A password on the command line is refused: other users could read it.
    """
    # Imported here because psycopg is an extra.
    from imagekeep.fleet.connection import has_password, parse_url, read_credentials

    if not url and not credentials:
        raise InvalidArgumentError(
            f"no centre (give --to postgresql://HOST/DATABASE or --credentials FILE, or set {ENVIRONMENT})"
        )
    source = click.get_current_context().get_parameter_source("url")
    if url and source is ParameterSource.COMMANDLINE and has_password(url):
        raise InvalidArgumentError(
            "--to: other users can see a password on a command line (use --credentials, ~/.pgpass or "
            f"{ENVIRONMENT})"
        )
    found = parse_url(url) if url and not credentials else {}
    return found | (read_credentials(Path(credentials)) if credentials else {})


class Asked(NamedTuple):
    """The fleet that a question is for: a centre, or exported stores."""

    url: str | None
    credentials: str | None
    exports: str | None

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[Fleet, ModuleType]]:
        """Yield the fleet and the module of questions."""
        if self.exports is not None:
            from imagekeep.fleet import questions
            from imagekeep.fleet.exports import ExportedFleet

            yield ExportedFleet.read(self.exports), questions
            return
        parameters = centre_parameters(self.url, self.credentials)
        from imagekeep.fleet import questions
        from imagekeep.fleet.reading import PostgresFleet

        with PostgresFleet.open(parameters) as fleet:
            yield fleet, questions

    def parameters(self, what: str) -> dict[str, str]:
        """Return the connection parameters; raises InvalidArgumentError for exports, which cannot do `what`."""
        if self.exports is not None:
            raise InvalidArgumentError(f"{what} needs a centre (give --to, not --from)")
        return centre_parameters(self.url, self.credentials)


def asking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a fleet to a command, which gets them as one `Asked`."""

    @click.option("--from", "exports", metavar="PATTERN", help="Ask exported stores, such as 'exports/*.db'.")
    @credentials_option
    @to_option
    @functools.wraps(function)
    def wrapped(url: str | None, credentials: str | None, exports: str | None, **options: Any) -> Any:
        return function(Asked(url, credentials, exports), **options)

    return wrapped
