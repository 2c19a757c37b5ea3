"""Debian's docker-registry on loopback, for real pulls."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.containerd import wait_until
from tests.tools import require, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}
http: {{addr: "{address}"}}
"""


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Run a registry that keeps its images in `directory`; yield its address, `127.0.0.1:PORT`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    configuration = directory / "registry.yml"
    configuration.write_text(CONFIGURATION.format(directory=directory, address=address))
    with (directory / "registry.log").open("ab") as log:
        process = subprocess.Popen(
            [require("docker-registry"), "serve", configuration], stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _answers(port))
        yield address
    finally:
        process.terminate()
        process.wait(30)


def push(layout: Path, tag: str, reference: str) -> None:
    """Copy an image of a layout into a registry."""
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:{tag}", f"docker://{reference}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
