"""Failures of containerd and its socket: one error each, in time, which names the socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.errors import (
    FailedPreconditionError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    PermissionDeniedError,
    SourceFaultError,
    SourceTimeoutError,
    SourceUnavailableError,
    SourceUnsupportedError,
)
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.containerd import Containerd, Timeouts
from imagekeep.sources.containerd.connection import CONNECT_TIMEOUT
from tests.containerd import CRI, IMAGES, running, wait_until
from tests.images import digest_of
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.containerd import Daemon

SHORT = Timeouts(call=0.2, read=0.2, removal=0.2)
BLOB = Descriptor("", digest_of(b"blob"), 4)

CALLS: dict[str, Callable[[Containerd], object]] = {
    "version": Containerd.version,
    "namespaces": Containerd.namespaces,
    "get": lambda source: source.get("example.test/app:v1"),
    "references": Containerd.records,
    "read": lambda source: source.read(BLOB),
    "info": lambda source: source.info(BLOB.digest),
    "contents": Containerd.contents,
    "contents of some": lambda source: source.contents([BLOB.digest]),
    "containers": Containerd.containers,
    "containers of some": lambda source: source.containers(["app"]),
    "unpacked": Containerd.unpacked,
    "unpacked bytes": lambda source: source.unpacked_bytes([BLOB.digest]),
    "pin": lambda source: source.pin("example.test/app:v1"),
    "remove": lambda source: source.remove("example.test/app:v1"),
    "remove synchronously": lambda source: source.remove("example.test/app:v1", synchronous=True),
}

CODES = {
    grpc.StatusCode.ABORTED: SourceFaultError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.INTERNAL: SourceFaultError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
    grpc.StatusCode.UNAVAILABLE: SourceUnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: SourceUnsupportedError,
    grpc.StatusCode.UNKNOWN: SourceFaultError,
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Callable[[Containerd], object]:
    """Return each call that a source makes."""
    return CALLS[request.param]


@contextmanager
def answering(path: Path, code: grpc.StatusCode, details: str) -> Iterator[None]:
    """Run a server that answers every call with a code."""

    class Refusing(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(lambda _, context: context.abort(code, details))

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Refusing()])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(("code", "expected"), CODES.items(), ids=lambda value: getattr(value, "name", ""))
def test_each_code_has_an_error_with_the_socket_and_the_message(
    code: grpc.StatusCode, expected: type[ImagekeepError], tmp_path: Path
) -> None:
    path = tmp_path / "grpc"
    with answering(path, code, "because \x1b[2J of that"), Containerd(str(path)) as source:
        for ask in CALLS.values():
            with pytest.raises(expected) as caught:
                ask(source)
            assert type(caught.value) is expected
            assert str(caught.value) == rf"containerd at {path}: because \x1b[2J of that"


def test_a_missing_socket_fails_every_call_at_once(
    call: Callable[[Containerd], object], tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"no socket at .*/nothing \(is containerd running\?\)"):
        call(Containerd(str(tmp_path / "nothing")))
    assert time.monotonic() - started < CONNECT_TIMEOUT


def test_a_socket_without_a_listener_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(SourceUnavailableError, match=f"nothing listens at {path}"):
        Containerd(str(path)).version()


def test_a_socket_of_another_type_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "datagrams"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(SourceUnavailableError, match=f"nothing listens at {path}"):
            Containerd(str(path)).version()


@pytest.mark.parametrize("name", ["file", "directory"])
def test_a_path_that_is_not_a_socket_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    with pytest.raises(InvalidArgumentError, match=f"{name} is not a socket"):
        Containerd(str(tmp_path / name)).version()


@pytest.mark.parametrize("path", ["x" * 200, "a\0b", "\ud800", ""])
def test_an_invalid_socket_path_is_an_error(path: str) -> None:
    with pytest.raises((InvalidArgumentError, SourceUnavailableError)):
        Containerd(path).version()


def test_a_socket_without_permission_is_an_error(public_directory: Path) -> None:
    path = public_directory / "private"
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(path))
        path.chmod(0)
        private.listen()
        with without_privileges(), pytest.raises(PermissionDeniedError, match=f"permission denied: {path}"):
            Containerd(str(path)).version()


def test_any_path_that_a_socket_can_have_can_be_connected_to(daemon: Daemon, tmp_path: Path) -> None:
    directory = tmp_path / "a b%41#?ü:"
    directory.mkdir()
    (directory / "grpc").symlink_to(daemon.socket)
    with Containerd(str(directory / "grpc")) as source:
        assert source.version().version


def test_a_relative_path_stays_that_socket_after_chdir(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grpc").symlink_to(daemon.socket)
    monkeypatch.chdir(tmp_path)
    with Containerd("grpc") as source:
        monkeypatch.chdir("/")
        assert source.version().version


@pytest.mark.parametrize("name", [b"caf\xe9.sock", b"%41 ?#.sock"])
def test_a_path_of_any_bytes_can_be_connected_to(name: bytes, daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    path.symlink_to(daemon.socket)
    for spelling in (str(path), f"/{path}", f"//{path}"):
        with Containerd(spelling) as source:
            assert source.version().version


def test_every_call_ends_at_its_deadline(daemon: Daemon, call: Callable[[Containerd], object]) -> None:
    with Containerd(daemon.socket, timeouts=SHORT) as source:
        wait_until(lambda: answers(source))
        with (
            daemon.suspended(),
            pytest.raises(SourceTimeoutError, match=re.escape(f"{daemon.socket}: no answer within 0.2 s")),
        ):
            call(source)


def test_the_first_call_ends_at_its_deadline_too(daemon: Daemon) -> None:
    with (
        Containerd(daemon.socket, timeouts=SHORT) as source,
        daemon.suspended(),
        pytest.raises(SourceTimeoutError),
    ):
        source.version()


def test_a_call_that_timed_out_does_not_hinder_the_next(daemon: Daemon) -> None:
    with Containerd(daemon.socket, timeouts=SHORT) as source:
        with daemon.suspended(), pytest.raises(SourceTimeoutError):
            source.version()
        with Containerd(daemon.socket) as patient:
            patient.version()
        wait_until(lambda: answers(source))


def answers(source: Containerd) -> bool:
    """Return whether a source answers now."""
    try:
        return bool(source.version())
    except SourceUnavailableError:
        return False


def test_a_containerd_that_ended_is_unavailable_until_it_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon, Containerd(daemon.socket) as source:
        daemon.make_image(tmp_path / "image", "example.test/app:v1")
        daemon.end()
        with pytest.raises(SourceUnavailableError, match=re.escape(daemon.socket)):
            source.records()
        daemon.start()
        wait_until(lambda: answers(source))
        assert [record.reference for record in source.records()] == ["example.test/app:v1"]


def test_the_socket_of_a_killed_containerd_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon, Containerd(daemon.socket) as source:
        source.version()
        daemon.end(signal.SIGKILL)
        with pytest.raises(SourceUnavailableError, match=f"nothing listens at {daemon.socket}"):
            source.version()


def test_a_disabled_service_is_distinguished_from_a_stopped_containerd(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI, IMAGES) as daemon, Containerd(daemon.socket) as source:
        with pytest.raises(SourceUnsupportedError, match=r"unknown service containerd\.services\.images\.v1"):
            source.records()
        assert source.version().version


def test_a_closed_source_refuses_calls(daemon: Daemon, call: Callable[[Containerd], object]) -> None:
    source = Containerd(daemon.socket)
    source.version()
    source.close()
    with pytest.raises(FailedPreconditionError, match="was closed"):
        call(source)
    source.close()


def test_a_missing_record_is_distinguished_from_a_failing_containerd(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make_image(tmp_path / "image", "example.test/failing:v1")
    with Containerd(daemon.socket) as source, pytest.raises(ImageNotFoundError):
        source.get("example.test/never:v1")


@pytest.mark.parametrize("package", ["grpc", "google.protobuf"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(package: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from imagekeep.errors import MissingExtraError
from imagekeep.sources.specifier import open_source
try:
    open_source("containerd")
except MissingExtraError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "is not installed (run: pip install 'imagekeep[containerd]')" in printed.stdout


def test_no_other_source_imports_grpc(tmp_path: Path) -> None:
    program = """
import sys
import imagekeep
from imagekeep.sources.specifier import open_source
from imagekeep import *
open_source("oci:x")
print("grpc" in sys.modules, "google.protobuf" in sys.modules)
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert printed.stdout == "False False\n"


def test_the_environments_proxy_is_not_asked(daemon: Daemon) -> None:
    program = (
        "import sys; from imagekeep.sources.containerd import Containerd; Containerd(sys.argv[1]).version()"
    )
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-c", program, daemon.socket]
    subprocess.run(command, env={**os.environ, **proxy}, check=True, timeout=60)
