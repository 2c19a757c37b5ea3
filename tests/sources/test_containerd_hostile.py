"""A containerd that answers with more than it costs to send: every answer has a budget."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.errors import SourceFaultError
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.budget import COUNTED_FROM, FIELDS_MAX, MESSAGES_MAX, is_within_budget
from imagekeep.sources.containerd.connection import RECEIVED_BYTES_MAX
from imagekeep.sources.containerd.protocol import LIST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOM = RECEIVED_BYTES_MAX - 64


def field(number: int, content: bytes) -> bytes:
    """Encode a field that has a length."""
    length, encoded = len(content), bytearray([number << 3 | 2])
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*encoded, length]) + content


EMPTY = field(1, b"")
RECORD = field(1, b"example.test/app:v1") + field(3, b"")
HOSTILE = {
    "empty records": EMPTY * (ROOM // 2),
    "empty labels of one record": field(1, RECORD + field(2, b"") * ((ROOM - 64) // 2)),
    "empty targets of one record": field(1, RECORD + field(3, b"") * ((ROOM - 64) // 2)),
    "records after others that are unknown": field(9, b"x" * COUNTED_FROM) + EMPTY * (ROOM // 4),
    "records within a group": b"\x0b" + EMPTY * (ROOM // 4) + b"\x0c",
    "records after numbers of 64 bits": (b"\x79" + b"\0" * 8 + EMPTY) * (ROOM // 11),
    "numbers that are unknown": b"\x78\0" * (ROOM // 2),
    "texts that are unknown": field(9, b"") * (ROOM // 2),
    "groups that are unknown": b"\x4b\x4c" * (ROOM // 2),
    "names of one record": field(1, field(1, b"") * (ROOM // 2 - 8)),
}


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Run a server that answers every call with these bytes."""

    class Answering(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _, context: answer)

    options = [("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Answering()], options=options)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


LIST = """
import sys
from imagekeep.errors import ImagekeepError
from imagekeep.sources.containerd import Containerd
try:
    print(len(Containerd(sys.argv[1]).records()))
except ImagekeepError as error:
    print(type(error).__name__, error)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_listing_of_too_many_parts_is_refused_before_it_is_decoded(answer: bytes, tmp_path: Path) -> None:
    with answering(tmp_path / "grpc", answer):
        command = [sys.executable, "-c", LIST, str(tmp_path / "grpc")]
        said, kibibytes = subprocess.check_output(command, text=True).splitlines()
    assert said.startswith("FailedPreconditionError containerd at ")
    assert f"more than {MESSAGES_MAX} parts" in said
    assert int(kibibytes) < 256 << 10


def test_the_listing_of_a_large_node_is_read(tmp_path: Path) -> None:
    record = field(2, field(1, b"key") + field(2, b"value")) + field(3, field(1, b"type"))
    answer = b"".join(field(1, field(1, b"app:%d" % number) + record) for number in range(100_000))
    assert len(answer) > COUNTED_FROM
    with answering(tmp_path / "grpc", answer), Containerd(str(tmp_path / "grpc")) as source:
        records = source.records()
    assert (len(records), records[-1].labels) == (100_000, {"key": "value"})


def test_an_undecodable_answer_is_a_fault_of_the_source_and_not_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "grpc", b"\xff" * 100), Containerd(str(tmp_path / "grpc")) as source:
        with pytest.raises(SourceFaultError, match="is not understood"):
            source.version()
        with pytest.raises(SourceFaultError, match="is not understood"):
            source.records()
        assert capfd.readouterr().err == ""  # before the server ends, which gRPC itself may log


@pytest.mark.parametrize("end", [b"\x80" * COUNTED_FROM, b"\x0a\xff\xff\xff\xff\x7f", b"\x0a", b"\xff" * 30])
def test_a_truncated_answer_is_left_to_the_decoder(end: bytes) -> None:
    whole = field(1, field(1, b"x" * COUNTED_FROM))
    assert is_within_budget(whole + end, LIST_IMAGES.response.DESCRIPTOR)


def test_a_large_answer_is_counted_to_the_last_part() -> None:
    kind = LIST_IMAGES.response.DESCRIPTOR
    enough = field(9, b"x" * COUNTED_FROM) + EMPTY * MESSAGES_MAX
    assert is_within_budget(enough, kind)
    assert not is_within_budget(enough + EMPTY, kind)


def test_a_large_answer_is_counted_to_the_last_field() -> None:
    kind = LIST_IMAGES.response.DESCRIPTOR
    assert is_within_budget(b"\x78\0" * FIELDS_MAX, kind)
    assert not is_within_budget(b"\x78\0" * (FIELDS_MAX + 1), kind)
