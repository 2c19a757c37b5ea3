"""The IP addresses that metrics and health are served at."""

from __future__ import annotations

import pytest

from imagekeep.cri.addresses import TcpAddress, parse_tcp_address
from imagekeep.errors import InvalidArgumentError


@pytest.mark.parametrize(
    "text",
    ["localhost:90", "127.0.0.1", "127.0.0.1:x", ":90", "*:90", "::1:90", "[127.0.0.1]:90", "unix:///m.sock", ""]
    + [f"127.0.0.1:{port}" for port in ("-1", "+90", " 90", "9_0", "90\n", "65536", "\u0661\u0662")]
    + ["[::1%lo]:90", "[::1]", "[::1"],
)  # fmt: skip
def test_what_is_not_an_address_and_a_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^invalid metrics address .*: must be IP:PORT$"):
        parse_tcp_address(text, "metrics")


@pytest.mark.parametrize(
    ("text", "host", "loopback"),
    [
        ("127.0.0.1:9000", "127.0.0.1", True),
        ("[::1]:9000", "::1", True),
        ("[::ffff:7f00:1]:9000", "::ffff:7f00:1", True),
        ("0.0.0.0:9000", "0.0.0.0", False),
        ("[::]:9000", "::", False),
        ("10.1.2.3:9000", "10.1.2.3", False),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, loopback: bool) -> None:
    address = parse_tcp_address(text, "metrics")
    assert (address, str(address), address.is_loopback) == (TcpAddress(host, 9000), text, loopback)
