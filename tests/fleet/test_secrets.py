"""Secrets of configs stay at home: in no byte that leaves the node, and nowhere in the centre."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

from imagekeep import ObservedImage, Store
from imagekeep.digest import digest_of
from imagekeep.fleet.follow import ship_store
from imagekeep.oci.image import chain_id
from tests.fleet.server import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fleet.centres import Centre

SECRET = "hunter2-swordfish"
LAYER = digest_of(b"layer")
CONFIG = {
    "author": SECRET,
    "created": "2026-01-02T03:04:05Z",
    "architecture": "arm64",
    "os": "linux",
    "config": {
        "Env": [f"TOKEN={SECRET}"],
        "Labels": {"password": SECRET, SECRET: "key"},
        "Cmd": ["run", f"--password={SECRET}"],
        "Entrypoint": [f"/entry {SECRET}"],
        "User": SECRET,
        "WorkingDir": f"/{SECRET}",
        "Volumes": {f"/{SECRET}": {}},
        "ExposedPorts": {f"{SECRET}/tcp": {}},
        "StopSignal": SECRET,
    },
    "rootfs": {"type": "layers", "diff_ids": [LAYER]},
    "history": [
        {
            "created_by": f"RUN |1 KEY={SECRET}",
            "author": SECRET,
            "comment": SECRET,
            "created": "2026-01-02T03:04:05Z",
        }
    ],
    "annotations": {"key": SECRET},
}


class Recorder:
    """Forwards connections to a server's Unix socket, and keeps what the clients send."""

    def __init__(self, directory: Path, target: str, port: int) -> None:
        self.sent = bytearray()
        self._target = target
        self._handlers: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / f".s.PGSQL.{port}"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for handler in self._handlers:
            handler.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                handler = threading.Thread(target=self._handle, args=(client,))
                handler.start()
                self._handlers.append(handler)

    def _handle(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._target)
            back = threading.Thread(target=forward, args=(server, client, bytearray()))
            back.start()
            forward(client, server, self.sent)
            back.join()


def forward(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    """Copy what one socket receives to another, until it ends."""
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            kept += part
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def recorder(directory: Path, centre: Centre) -> Iterator[Recorder]:
    """Yield a recorder in front of a centre; its socket is in `directory`."""
    port = centre.server.port
    recording = Recorder(directory, str(centre.server.directory / f".s.PGSQL.{port}"), port)
    try:
        yield recording
    finally:
        recording.close()


def test_no_secret_of_a_config_leaves_the_node(centre: Centre, tmp_path: Path) -> None:
    document = json.dumps(CONFIG).encode()
    image = ObservedImage(digest_of(document), chain_id([LAYER]), 1000, document, digest_of(b"target"))
    parameters = centre.enroll("a")
    with Store.open(tmp_path / "images.db") as store:
        store.apply("app:1", image)
    with recorder(tmp_path, centre) as recording:
        local = {key: parameters[key] for key in ("user", "password", "port", "dbname")} | {
            "host": str(tmp_path)
        }
        ship_store(tmp_path / "images.db", local, "1")
        with Store.open(tmp_path / "images.db") as store:
            store.apply("app:2", image)
        ship_store(tmp_path / "images.db", local, "1")
    assert image.id.encode() in recording.sent
    assert LAYER.encode() in recording.sent
    assert SECRET.encode() not in recording.sent
    dump = subprocess.run(
        [binaries() / "pg_dump", "-U", "postgres", "-h", centre.server.directory, "-p", str(centre.server.port),
         centre.database], capture_output=True, check=True, env=os.environ,
    ).stdout  # fmt: skip
    assert image.id.encode() in dump
    assert b"arm64" in dump
    assert SECRET.encode() not in dump
