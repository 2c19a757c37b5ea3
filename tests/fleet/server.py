"""A real PostgreSQL with everything it has in a directory of its own, on a Unix socket and with TLS on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{directory}'
max_connections = 60
fsync = {fsync}
shared_buffers = 64MB
ssl = on
ssl_cert_file = '{directory}/tls/server.crt'
ssl_key_file = '{directory}/tls/server.key'
ssl_ca_file = '{directory}/tls/ca.crt'
log_min_messages = warning
"""

ACCESS = """
local all postgres trust
local all all scram-sha-256
hostssl all imagekeep_by_certificate 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def binaries() -> Path:
    """Return the directory of PostgreSQL's programs; skip without them, or fail in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")
    return found[-1].parent


class Server:
    """A PostgreSQL that a test may also kill and start again."""

    def __init__(self, directory: Path, *, fsync: bool = False, settings: str = "") -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self._own(directory)
        self._run(
            "initdb", "-D", directory / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )
        make_certificates(directory / "tls")
        for path in (directory / "tls").iterdir():
            self._own(path)
        self._own(directory / "tls")
        data = directory / "data"
        with (data / "postgresql.conf").open("a") as file:
            on = "on" if fsync else "off"
            file.write(CONFIGURATION.format(port=self.port, directory=directory, fsync=on) + settings)
        (data / "pg_hba.conf").write_text(ACCESS)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.directory / "data"],
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        """End its processes with SIGKILL; the backends notice that their parent is gone, or are killed here."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}/stat").exists() for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self._process = None

    def stop(self) -> None:
        """Stop it at once, in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def copy(self, source: Path, destination: Path) -> None:
        """Copy the data of a stopped server, as its user."""
        subprocess.run(["cp", "-a", source, destination], check=True, cwd=self.directory, **self._as_user())

    def url(self, database: str, role: str = "postgres") -> str:
        """Return the URL of a database on the Unix socket."""
        return f"postgresql://{role}@/{database}?host={self.directory}&port={self.port}"

    def tls(self, database: str, role: str) -> dict[str, str]:
        """Return the connection parameters of a database over TLS."""
        return {
            "host": "127.0.0.1", "port": str(self.port), "dbname": database, "user": role,
            "sslmode": "verify-full", "sslrootcert": str(self.directory / "tls" / "ca.crt"),
        }  # fmt: skip

    def _own(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _as_user(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid} if self._user else {}

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [binaries() / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self.directory,
            **self._as_user(),
        )


def make_certificates(directory: Path) -> None:
    """Make a certificate authority, a certificate for 127.0.0.1, and one for a node's role."""
    directory.mkdir(mode=0o755)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    run(
        "openssl", "req", "-x509", *key, "-subj", "/CN=test CA", "-keyout", directory / "ca.key",
        "-out", directory / "ca.crt",
    )  # fmt: skip
    for name, subject in (("server", "127.0.0.1"), ("node", "imagekeep_by_certificate")):
        run(
            "openssl", "req", *key, "-subj", f"/CN={subject}", "-addext", "subjectAltName=IP:127.0.0.1", "-x509",
            "-CA", directory / "ca.crt", "-CAkey", directory / "ca.key", "-keyout", directory / f"{name}.key",
            "-out", directory / f"{name}.crt",
        )  # fmt: skip
    for path in directory.glob("*.key"):
        path.chmod(0o600)


@contextlib.contextmanager
def running(*, fsync: bool = False, settings: str = "") -> Iterator[Server]:
    """Yield a server in a directory that its user can reach, which pytest's are not."""
    directory = Path(tempfile.mkdtemp(prefix="imagekeep-fleet-"))
    directory.chmod(0o755)
    server = Server(directory, fsync=fsync, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
