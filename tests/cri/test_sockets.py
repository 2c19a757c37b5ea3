"""The server's socket: its address, its mode, and its exclusive lock."""

from __future__ import annotations

import os
import socket as sockets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.cri.sockets import Access, exclusive_socket, grant, parse_address, private
from imagekeep.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UntrustedFileError,
)
from tests.cri.client import Client
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from tests.cri.conftest import Serve


@pytest.mark.parametrize(
    "address",
    ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock", "unix:////run/x.sock", "///run/x.sock"],
)
def test_an_address_is_parsed_as_clients_do(address: str) -> None:
    assert str(parse_address(address)) == "/run/x.sock"


@pytest.mark.parametrize(
    "address",
    ["", "unix:", "unix://", "unix:x.sock", "unix://run/x.sock", "tcp://127.0.0.1:80", "x.sock", "/a\0b"],
)
def test_an_invalid_socket_path_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_address(address)


@pytest.mark.parametrize("address", ["/", "unix:///", "/run/", "/run/..", "unix:///run/."])
def test_an_address_that_is_a_directory_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must not be a directory"):
        parse_address(address)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    assert parse_address("/" + "x" * 106)
    with pytest.raises(InvalidArgumentError, match="107 bytes"):
        parse_address("/" + "x" * 107)


def test_the_socket_is_private_by_default(begin: Serve, socket: Path) -> None:
    mask = os.umask(0)
    try:
        begin()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


def test_the_socket_has_the_requested_mode_and_group(begin: Serve, socket: Path) -> None:
    group = os.getgroups()[-1] if os.getuid() else 12345
    begin(access=Access(0o660, str(group)))
    assert (stat.S_IMODE(socket.stat().st_mode), socket.stat().st_gid) == (0o660, group)


def test_an_unknown_group_is_refused_and_nothing_is_served(begin: Serve, socket: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown group"):
        begin(access=Access(0o660, "no-such-group-here"))
    assert not socket.exists()


def test_a_second_server_is_refused_and_the_first_continues(begin: Serve) -> None:
    first = begin()
    with pytest.raises(FailedPreconditionError, match="is in use by another server"):
        begin()
    assert first.ask("Version").code == "OK"


def test_one_of_two_servers_started_together_is_refused(socket: Path) -> None:
    with exclusive_socket(socket):
        with pytest.raises(FailedPreconditionError, match="another server"), exclusive_socket(socket):
            pass
        with pytest.raises(FailedPreconditionError, match="another server"), exclusive_socket(socket):
            pass
    with exclusive_socket(socket):
        pass


def test_a_stale_socket_is_removed_when_its_path_is_claimed(socket: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket))
    with exclusive_socket(socket):
        assert not socket.exists()


def test_a_socket_is_private_from_its_creation(socket: Path) -> None:
    with private(), sockets.socket(sockets.AF_UNIX) as made:
        made.bind(str(socket))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600


def test_a_socket_in_use_is_not_replaced(begin: Serve, socket: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket))
        other.listen()
        with pytest.raises(FailedPreconditionError, match="is in use by another server"):
            begin()
        assert socket.exists()


def test_an_unused_socket_is_replaced(begin: Serve, socket: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket))
    assert begin().ask("Version").code == "OK"


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_file_that_is_not_a_socket_is_not_replaced(
    kind: str, begin: Serve, socket: Path, tmp_path: Path
) -> None:
    if kind == "file":
        socket.write_text("kept")
    elif kind == "directory":
        socket.mkdir()
    else:
        socket.symlink_to(tmp_path / "elsewhere.sock")
    with pytest.raises(FailedPreconditionError, match="not a socket"):
        begin()
    assert socket.is_symlink() or socket.exists()


def test_its_directory_is_created(begin: Serve, tmp_path: Path) -> None:
    path = tmp_path / "run" / "cri.sock"
    begin(path=path)
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with without_privileges(), pytest.raises(PermissionDeniedError), exclusive_socket(tmp_path / "cri.sock"):
        pass


@pytest.mark.parametrize("name", [b"caf\xe9.sock", b"100%25.sock", b"a b?c#d.sock"])
def test_a_path_of_any_bytes_can_be_served(name: bytes, begin: Serve, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    begin(path=parse_address(f"unix://{path}"))
    assert stat.S_ISSOCK(path.stat().st_mode)
    with Client(path) as client:
        assert client.ask("Version").code == "OK"


def test_a_path_that_begins_with_two_slashes_can_be_served(begin: Serve, tmp_path: Path) -> None:
    begin(path=Path(f"/{tmp_path}/cri.sock"))
    with Client(f"/{tmp_path}/cri.sock") as client:
        assert client.ask("Version").code == "OK"


def test_a_file_that_replaced_the_socket_keeps_its_mode(socket: Path, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("")
    target.chmod(0o600)
    socket.symlink_to(target)
    with pytest.raises(FailedPreconditionError, match="was replaced"):
        grant(socket, Access(0o666))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_another_users_socket_keeps_its_group(socket: Path) -> None:
    if os.getuid():
        pytest.skip("only root can make a file of another user")
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket))
    os.chown(socket, 1234, -1)
    before = socket.stat()
    with pytest.raises(FailedPreconditionError, match="was replaced"):
        grant(socket, Access(0o666, "4321"))
    assert (socket.stat().st_mode, socket.stat().st_gid) == (before.st_mode, before.st_gid)


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o755, 1234)])
@pytest.mark.parametrize("below", [".", "below"])
def test_a_directory_where_others_may_replace_the_socket_is_refused(
    mode: int, owner: int, below: str, tmp_path: Path
) -> None:
    if os.getuid():
        pytest.skip("only root can make a directory of another user")
    directory = tmp_path / "shared"
    (directory / below).mkdir(parents=True)
    directory.chmod(mode)
    os.chown(directory, owner, 1234)
    with (
        pytest.raises(UntrustedFileError, match=r"shared.*keep the socket elsewhere"),
        exclusive_socket(directory / below / "cri.sock"),
    ):
        pass
    assert not list(directory.rglob("cri.sock*"))


def test_a_sticky_directory_is_accepted(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with exclusive_socket(tmp_path / "cri.sock"):
        pass


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_another_users_lock_is_named_with_its_owner(kind: str, socket: Path) -> None:
    if os.getuid():
        pytest.skip("only root can make a file of another user")
    lock = socket.with_name(f"{socket.name}.lock")
    if kind == "file":
        lock.touch()
    elif kind == "link":
        lock.symlink_to("/dev/null")
    else:
        os.mkfifo(lock)
    socket.parent.chmod(0o1777)
    os.chown(lock, 1234, -1, follow_symlinks=False)
    with (
        pytest.raises(FailedPreconditionError, match=r"cri\.sock\.lock belongs to user 1234.*\(remove it\)"),
        exclusive_socket(socket),
    ):
        pass
