"""Connects to a fleet's centre, and translates PostgreSQL's errors.

Each call of a node has a time limit, so that a centre that stalls cannot hold it: the socket is shut down when the
time is over.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from imagekeep.errors import (
    CentreBusyError,
    CentreRefusedError,
    CentreUnavailableError,
    CentreVersionError,
    CursorMovedError,
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    MissingExtraError,
    PermissionDeniedError,
    from_os_error,
    printable,
)

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as missing:
    raise MissingExtraError("psycopg", "fleet") from missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECT_TIMEOUT = 10
"""Seconds to connect, TLS and authentication included."""

CALL_TIMEOUT = 120.0
"""Seconds for one call of the centre."""

CREDENTIAL_KEYS = (
    *("channel_binding", "dbname", "host", "hostaddr", "password", "port"),
    *("sslcert", "sslkey", "sslmode", "sslrootcert", "user"),
)
"""Connection parameters of libpq that a credential file may have."""

CREDENTIALS_MAX = 65_536
"""Maximum bytes of a credential file."""

_REFUSALS: dict[str, type[ImagekeepError]] = {
    "IK001": CentreRefusedError,
    "IK002": CentreVersionError,
    "IK003": CursorMovedError,
    "IK004": CentreBusyError,
    "IK005": CentreRefusedError,
}
"""Errors for the codes with which the centre's functions refuse a call (migrations/versions/0001_functions.sql)."""

_MISSING_SCHEMA = frozenset(("3F000", "42883", "42P01", "42703"))
"""SQLSTATEs for a schema, function, table or column that does not exist."""

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


def parse_url(url: str) -> dict[str, str]:
    """Return the connection parameters of a `postgresql://` URL; TCP is verified by default.

    Raises InvalidArgumentError.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise InvalidArgumentError(
            f"centre {printable(_without_password(url))}: must start with postgresql://"
        )
    try:
        found = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error as error:
        raise InvalidArgumentError(f"centre: {printable(str(error).strip())}") from None
    return verified(found)


def verified(parameters: dict[str, str]) -> dict[str, str]:
    """Return connection parameters with `sslmode=verify-full`, unless they name a mode or a Unix socket."""
    host = parameters.get("host", "") or os.environ.get("PGHOST", "")
    local = not parameters.get("hostaddr") and (not host or host.startswith(("/", "@")))
    if local or "sslmode" in parameters or os.environ.get("PGSSLMODE"):
        return parameters
    return parameters | {"sslmode": "verify-full"}


def read_credentials(path: Path) -> dict[str, str]:
    """Return the connection parameters of a credential file: lines of `key = value`.

    Raises FailedPreconditionError if other users may read it, InvalidArgumentError for another key, and
    PermissionDeniedError or UnavailableError if it cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if (
                not stat.S_ISREG(status.st_mode)
                or status.st_mode & 0o077
                or status.st_uid not in (0, os.geteuid())
            ):
                raise FailedPreconditionError(
                    f"credentials {printable(path)}: other users can read it (run `chmod 600`; own it)"
                )
            text = file.read(CREDENTIALS_MAX)
    except OSError as error:
        raise from_os_error(error, f"credentials {printable(path)}", CentreUnavailableError) from error
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"credentials {printable(path)}: not UTF-8 text") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    if unknown := found.keys() - set(CREDENTIAL_KEYS):
        raise InvalidArgumentError(f"credentials {printable(path)}: unknown key {printable(min(unknown))!r}")
    return verified(found)


def place_of(parameters: dict[str, str]) -> str:
    """Return what a message calls a centre: host and database, without user and password."""
    host = parameters.get("host") or parameters.get("hostaddr") or "local socket"
    return f"centre {printable(host)}/{printable(parameters.get('dbname') or parameters.get('user') or '')}"


@contextlib.contextmanager
def connect(parameters: dict[str, str], application: str = "imagekeep") -> Iterator[Connection]:
    """Yield a connection in autocommit mode, with PostgreSQL's errors translated.

    Raises CentreUnavailableError, PermissionDeniedError, CentreVersionError and what the centre's functions refuse.
    """
    place = place_of(parameters)
    options: dict[str, Any] = {
        "application_name": application,
        "connect_timeout": CONNECT_TIMEOUT,
        "client_encoding": "UTF8",
        "keepalives_idle": 30,
        "tcp_user_timeout": 60_000,
    }
    with translating(place):
        connection = psycopg.connect(**(options | parameters), autocommit=True)
        try:
            yield connection
        finally:
            connection.close()


@contextlib.contextmanager
def translating(place: str) -> Iterator[None]:
    """Raise imagekeep's errors for PostgreSQL's; `place` is what they call the centre."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, place) from error


def translate(error: psycopg.Error, place: str) -> ImagekeepError:
    """Return imagekeep's error for PostgreSQL's."""
    code = error.sqlstate or ""
    message = printable((error.diag.message_primary or str(error)).strip().replace("\n", "; "), 500)
    if code in _REFUSALS:
        return _REFUSALS[code](f"{place}: {message}")
    if code in _MISSING_SCHEMA:
        return CentreVersionError(
            f"{place}: {message} (its schema is missing or of another release; run `imagekeep fleet migrate`)"
        )
    if code == "42501" or code.startswith("28") or "authentication failed" in message:
        return PermissionDeniedError(f"{place}: {message}")
    if isinstance(error, psycopg.DataError):
        return CentreRefusedError(f"{place}: {message}")
    return CentreUnavailableError(f"{place}: {message}")


@contextlib.contextmanager
def time_limit(connection: Connection, place: str, seconds: float = CALL_TIMEOUT) -> Iterator[None]:
    """Shut the connection's socket down after `seconds`; raises CentreUnavailableError if that happened."""
    expired = threading.Event()

    def end() -> None:
        expired.set()
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as copy,
        ):
            copy.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error:
        if not expired.is_set():
            raise
        raise CentreUnavailableError(f"{place}: did not answer within {seconds:g} s") from None
    finally:
        timer.cancel()


def has_password(url: str) -> bool:
    """Return whether a URL has a password, which other users would see on a command line."""
    return _without_password(url) != url


def _without_password(url: str) -> str:
    """Return a URL without what may be its password, also if it is malformed."""
    scheme, slashes, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{scheme}{slashes}{name}{at}{place}" if colon else url
    return shown.partition("password=")[0]
