"""Health over TCP, as a kubelet's probe asks for it."""

from __future__ import annotations

import functools
import socket as sockets
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.cri.addresses import TcpAddress
from imagekeep.cri.health_port import serving_health
from imagekeep.cri.protocol import LIST_IMAGES
from imagekeep.cri.server_info import CHECK
from imagekeep.errors import FailedPreconditionError
from tests.containerd import wait_until
from tests.cri.process import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.reader import Reader
    from tests.cri.conftest import Serve

SERVING, NOT_SERVING = 1, 2


@pytest.fixture
def address() -> TcpAddress:
    """Return an address that nobody uses."""
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        return TcpAddress("127.0.0.1", free.getsockname()[1])


@pytest.fixture
def channel(address: TcpAddress) -> Iterator[grpc.Channel]:
    """Yield a channel to it."""
    with grpc.insecure_channel(str(address), options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def probe(channel: grpc.Channel) -> int:
    """Return the status of the whole server."""
    check = channel.unary_unary(
        CHECK.path,
        request_serializer=CHECK.request.SerializeToString,
        response_deserializer=CHECK.response.FromString,
    )
    return int(check(CHECK.request(), timeout=20, wait_for_ready=True).status)


def test_health_follows_the_store(
    begin: Serve, reader: Reader, address: TcpAddress, channel: grpc.Channel
) -> None:
    begin(background=functools.partial(serving_health, address, reader))
    assert probe(channel) == SERVING
    away = reader.path.rename(reader.path.with_name("away.db"))
    wait_until(lambda: probe(channel) == NOT_SERVING)
    away.rename(reader.path)
    wait_until(lambda: probe(channel) == SERVING)


def test_images_are_not_served_there(
    begin: Serve, reader: Reader, address: TcpAddress, channel: grpc.Channel
) -> None:
    begin(background=functools.partial(serving_health, address, reader))
    call: Any = channel.unary_unary(LIST_IMAGES.path)
    with pytest.raises(grpc.RpcError) as failure:
        call(b"", timeout=20, wait_for_ready=True)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_address_in_use_is_refused(begin: Serve, reader: Reader) -> None:
    with sockets.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = TcpAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(FailedPreconditionError, match=r"^cannot serve health at 127\.0\.0\.1:\d+: "):
            begin(background=functools.partial(serving_health, taken, reader))


def test_the_command_serves_health(store_path: Path, address: TcpAddress, channel: grpc.Channel) -> None:
    with serving(store_path.parent, "--health", str(address)):
        assert probe(channel) == SERVING
