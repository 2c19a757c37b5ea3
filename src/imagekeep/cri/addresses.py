"""The IP addresses that the server's metrics and health are served at."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from typing import Final, NamedTuple

from imagekeep.errors import FailedPreconditionError, InvalidArgumentError, printable

_PORT: Final = re.compile("[0-9]{1,5}")


class TcpAddress(NamedTuple):
    """An IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine, or this pod, can connect."""
        address = ipaddress.ip_address(self.host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def parse_tcp_address(text: str, what: str) -> TcpAddress:
    """Parse `127.0.0.1:PORT` or `[::1]:PORT`; `what` is served there, for the error.

    Raises InvalidArgumentError. Names are refused because they may resolve to more addresses than intended.
    """
    host, _, port = text.rpartition(":")
    with contextlib.suppress(ValueError):  # not an address or not a number: refused below
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        bracketed = host.startswith("[") and host.endswith("]")
        # int() also accepts signs, blanks and underscores, which are more likely typos.
        if (
            bracketed == (address.version == 6)
            and "%" not in host
            and _PORT.fullmatch(port)
            and int(port) < 65536
        ):
            return TcpAddress(str(address), int(port))
    raise InvalidArgumentError(f"invalid {what} address {printable(text)!r}: must be IP:PORT")


def cannot_serve(what: str, address: TcpAddress, error: OSError) -> FailedPreconditionError:
    """Return the error for an address that cannot be bound."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return FailedPreconditionError(f"cannot serve {what} at {address}: {reason}")
