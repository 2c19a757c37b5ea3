"""Clients that attack a CRI server: it must answer others meanwhile, and stay within its limits."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep import Store
from imagekeep.cri.handlers import REPLIES_BYTES_MAX
from imagekeep.cri.server import CONNECTIONS_MAX, DESCRIPTORS
from imagekeep.cri.server_info import REFLECT
from imagekeep.image import Image
from tests.cri.process import Process, serving
from tests.cri.raw import LIST, RawClient
from tests.torture.orders import PLATFORM
from tests.torture.report import Harm, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cri.client import Client

IMAGES = 3000
ANSWER_WAIT = 5.0
"""Seconds for one answer on a busy machine; it usually takes a millisecond."""

MEMORY_MAX = REPLIES_BYTES_MAX + (256 << 20)
LOG_LINES_MAX = 50
END_WAIT = 30.0


class Attack:
    """One attack on a server, with its connections."""

    def __init__(self, server: Process, metrics_port: int, draw: random.Random) -> None:
        self.server = server
        self.metrics_port = metrics_port
        self.draw = draw
        self.stack = contextlib.ExitStack()

    def connect(self, *settings: tuple[int, int]) -> RawClient | None:
        """Connect and exchange settings; return None if the server hangs up."""
        client = RawClient(self.server.socket)
        self.stack.callback(client.close)
        with contextlib.suppress(ConnectionError):
            client.greet(*settings)
            return client
        return None

    def call(self, client: RawClient | None, path: str, request: bytes | None, streams: int = 64) -> None:
        """Start calls on a connection, each with a request unless that is None."""
        if client is None:
            return
        with contextlib.suppress(ConnectionError):
            for stream in range(1, 2 * streams, 2):
                client.begin(stream, path)
                if request is not None:
                    client.request(stream, request)


def unread_lists(attack: Attack) -> None:
    """Lists that nobody reads, with a window of 0 bytes."""
    for _ in range(attack.draw.randrange(5, 12)):
        attack.call(attack.connect((4, 0)), LIST, b"")


def unread_streams(attack: Attack) -> None:
    for _ in range(attack.draw.randrange(5, 12)):
        attack.call(attack.connect((4, 0)), LIST.replace("ListImages", "StreamImages"), b"")


def silent_calls(attack: Attack) -> None:
    """Calls that never send their request."""
    for _ in range(attack.draw.randrange(5, 12)):
        attack.call(attack.connect(), LIST, None)


def idle_connections(attack: Attack) -> None:
    for _ in range(CONNECTIONS_MAX + attack.draw.randrange(50, 300)):
        attack.connect()


def large_requests(attack: Attack) -> None:
    """Requests of the largest size that never end."""
    for _ in range(attack.draw.randrange(5, 12)):
        client = attack.connect()
        attack.call(client, LIST, None, streams=8)
        if client is not None:
            client.connection.settimeout(0.1)
            with contextlib.suppress(OSError):
                client.connection.sendall(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + bytes(16_384))


def long_questions(attack: Attack) -> None:
    """Reflection requests with tens of thousands of names."""
    ask = REFLECT[0].request
    names = (ask(file_containing_symbol=f"a{n}").SerializeToString() for n in range(30_000))
    question = b"".join(names)[: attack.draw.randrange(100_000, 500_000)]
    client = attack.connect()
    if client is not None:
        client.connection.settimeout(1)
        with contextlib.suppress(OSError):
            client.begin(1, REFLECT[0].path)
            for begin in range(0, len(question), 16_000):
                client.request(1, question[begin : begin + 16_000])


def metrics_connections(attack: Attack) -> None:
    """Connections to the metrics port that send nothing, or half a request."""
    for _ in range(600):
        connection = attack.stack.enter_context(socket.socket())
        connection.settimeout(0.05)
        with contextlib.suppress(OSError):
            connection.connect(("127.0.0.1", attack.metrics_port))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n"[: attack.draw.randrange(24)])


ATTACKS: dict[str, Callable[[Attack], None]] = {
    function.__name__: function
    for function in (
        unread_lists,
        unread_streams,
        silent_calls,
        idle_connections,
        large_requests,
        long_questions,
        metrics_connections,
    )
}


def attack_server(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Attack one server `count` times with each kind."""
    report = Report("clients", "attacks")
    with Store.open(directory / "images.db", platform=PLATFORM) as store:
        for number in range(IMAGES):
            names = tuple(f"example.test/{'x' * 100}:v{number}-{tag}" for tag in range(3))
            store.add(Image(f"sha256:{number:064x}", names, "", 1, False, b"{}"))
    draw, port = random.Random(seed), free_port()
    with serving(directory, f"--metrics=127.0.0.1:{port}") as server, server.client() as client:
        for kind in kinds or ATTACKS:
            for _ in range(count):
                attack = Attack(server, port, draw)
                with attack.stack:
                    client.ask("Version")
                    ATTACKS[kind](attack)
                    answer_others(client, kind, report)
                    check_bounds(server, kind, report)
                recover(client, kind, report)
                report.rounds += 1
        log = server.log.read_text()
        if len(log.splitlines()) > LOG_LINES_MAX or "Traceback" in log:
            report.add(Harm.BROKEN, f"the log: {log[-1500:]}")
    return report


def answer_others(client: Client, kind: str, report: Report) -> None:
    """Record if a well-behaved client gets no answer, or a late one."""
    for method in ("Version", "Check", "Status") * 5:
        began = time.monotonic()
        answer = client.ask(method, timeout=ANSWER_WAIT)
        if answer.code != "OK":
            report.add(Harm.HUNG, f"{kind}: {method} {answer}")
        elif time.monotonic() - began > 1:
            report.facts["answers that took more than a second"] += 1


def check_bounds(server: Process, kind: str, report: Report) -> None:
    """Record if the server exceeds its limits."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) << 10
    if resident > MEMORY_MAX:
        report.add(Harm.BROKEN, f"{kind}: {resident >> 20} MiB of memory")
    descriptors = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    if descriptors > DESCRIPTORS // 2:
        report.add(Harm.BROKEN, f"{kind}: {descriptors} descriptors")
    report.facts["MiB at most"] = max(report.facts["MiB at most"], resident >> 20)
    report.facts["descriptors at most"] = max(report.facts["descriptors at most"], descriptors)


def recover(client: Client, kind: str, report: Report) -> None:
    """Record if listing images does not work again soon after the attack."""
    deadline = time.monotonic() + END_WAIT
    while (answer := client.ask("ListImages", timeout=ANSWER_WAIT)).code != "OK":
        if time.monotonic() > deadline:
            report.add(Harm.HUNG, f"{kind}: {answer.code} {answer.details} long after the attack")
            return


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
