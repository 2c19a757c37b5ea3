"""A containerd that answers with more than it costs to send: every answer has a budget."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from imagekeep.errors import FailedPreconditionError, SourceFaultError, SourceTimeoutError
from imagekeep.oci import content
from imagekeep.sources.containerd import Containerd, Timeouts, listings
from imagekeep.sources.containerd.budget import COUNTED_FROM, FIELDS_MAX, MESSAGES_MAX, is_within_budget
from imagekeep.sources.containerd.connection import RECEIVED_BYTES_MAX, Connection
from imagekeep.sources.containerd.protocol import (
    CONTENT_INFO,
    LIST_CONTAINERS,
    LIST_CONTENT,
    LIST_IMAGES,
    LIST_SNAPSHOTS,
    SNAPSHOT_USAGE,
)
from imagekeep.times import from_microseconds
from tests.images import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

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


@contextmanager
def streaming(path: Path, part: Callable[[int], Message]) -> Iterator[None]:
    """Run a server that answers every call with a stream without end; `part` makes a message from its number."""
    ended = threading.Event()

    class Streaming(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(lambda _, context: parts(context))

    def parts(context: Any) -> Iterator[bytes]:
        for number in itertools.count():
            if ended.is_set() or not context.is_active():
                return
            yield part(number).SerializeToString()

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Streaming()])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        ended.set()
        server.stop(None).wait()


def blobs(number: int) -> Message:
    digests = (digest_of(b"%d" % each) for each in range(number * 100, number * 100 + 100))
    return LIST_CONTENT.response(info=[{"digest": digest, "size": 1} for digest in digests])


def snapshots(number: int) -> Message:
    digests = (digest_of(b"%d" % each) for each in range(number * 100, number * 100 + 100))
    return LIST_SNAPSHOTS.response(info=[{"name": digest.encode()} for digest in digests])


def container(number: int) -> Message:
    return LIST_CONTAINERS.response(container={"id": f"app-{number}", "image": b"example.test/app:v1"})


ENDLESS: dict[str, tuple[Callable[[int], Message], Callable[[Containerd], object]]] = {
    "blobs": (blobs, Containerd.contents),
    "snapshots": (snapshots, Containerd.unpacked),
    "containers": (container, Containerd.containers),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_listing_without_end_is_refused_at_its_limit(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, ask = ENDLESS[what]
    monkeypatch.setattr(content, "BLOBS_LIMIT", 1000)
    monkeypatch.setattr(listings, "SNAPSHOTS_MAX", 1000)
    monkeypatch.setattr(listings, "CONTAINERS_MAX", 1000)
    with (
        streaming(tmp_path / "grpc", part),
        Containerd(str(tmp_path / "grpc")) as source,
        pytest.raises(FailedPreconditionError, match=f"more than 1000 {what}"),
    ):
        ask(source)


def test_a_listing_without_end_and_without_what_was_asked_for_ends_at_its_deadline(tmp_path: Path) -> None:
    asked = [digest_of(b"asked for %d" % number) for number in range(listings.SINGLE_MAX + 1)]
    with (
        streaming(tmp_path / "grpc", blobs),
        Containerd(str(tmp_path / "grpc"), timeouts=Timeouts(read=0.3)) as source,
        pytest.raises(SourceTimeoutError),
    ):
        source.contents(asked)


def test_blobs_containers_and_snapshots_of_impossible_names_and_sizes_are_left_out(tmp_path: Path) -> None:
    blob, less = digest_of(b"blob"), digest_of(b"less")
    sizes = [
        {"digest": blob, "size": 2**62},
        {"digest": less, "size": -1},
        {"digest": "x", "size": 1},
    ]
    with (
        answering(tmp_path / "content", LIST_CONTENT.response(info=sizes).SerializeToString()),
        Containerd(str(tmp_path / "content")) as source,
    ):
        others = [digest_of(b"%d" % number) for number in range(listings.SINGLE_MAX)]
        assert source.contents() == source.contents([blob, less, *others]) == {blob: 2**62}
    names = [blob.encode(), b"", b"\xff", b"sha256:abc", b"extract-1 " + blob.encode()]
    listed = LIST_SNAPSHOTS.response(info=[{"name": name} for name in names])
    with (
        answering(tmp_path / "snapshots", listed.SerializeToString()),
        Containerd(str(tmp_path / "snapshots")) as source,
    ):
        assert source.unpacked() == {blob}
    for fields in ({"id": "a/b"}, {"id": ""}, {"id": "x" * 77}):
        only = LIST_CONTAINERS.response(container=fields)
        with (
            answering(tmp_path / "containers", only.SerializeToString()),
            Containerd(str(tmp_path / "containers")) as source,
        ):
            assert source.containers() == []


def test_a_negative_size_of_one_blob_is_left_out(tmp_path: Path) -> None:
    answer = CONTENT_INFO.response(info={"digest": digest_of(b"blob"), "size": -5})
    with (
        answering(tmp_path / "grpc", answer.SerializeToString()),
        contextlib.closing(Connection(str(tmp_path / "grpc"), "k8s.io")) as connection,
    ):
        assert listings.blob_sizes(connection, [digest_of(b"blob")], 10) == {}


def test_a_negative_size_of_a_snapshot_is_left_out(tmp_path: Path) -> None:
    answer = SNAPSHOT_USAGE.response(size=-5)
    with (
        answering(tmp_path / "grpc", answer.SerializeToString()),
        Containerd(str(tmp_path / "grpc")) as source,
    ):
        assert source.unpacked_bytes([digest_of(b"layer")]) == {}


@pytest.mark.parametrize("ask", ["contents", "containers", "unpacked"])
def test_a_part_of_a_listing_that_is_too_large_is_refused_before_it_is_decoded(
    ask: str, tmp_path: Path
) -> None:
    # A container in a message of its own has as many fields.
    answer = b"\x78\0" * (ROOM // 2) if ask == "containers" else EMPTY * (ROOM // 2)
    with answering(tmp_path / "grpc", answer):
        command = [sys.executable, "-c", LIST.replace("records", ask), str(tmp_path / "grpc")]
        said, kibibytes = subprocess.check_output(command, text=True).splitlines()
    assert said.startswith("FailedPreconditionError containerd at ")
    assert int(kibibytes) < 256 << 10


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"image": b"\xff"}, {"reference": ""}),
        ({"image": b"x" * 40_000}, {"reference": ""}),
        ({"image": "é/ü:1".encode()}, {"reference": "é/ü:1"}),
        ({"created_at": {"seconds": 2**62}}, {"created_at": from_microseconds(2**63)}),
        ({"snapshotter": "overlayfs", "snapshot_key": b"\xff"}, {"snapshot_key": "\udcff"}),
        ({"snapshotter": "overlayfs", "snapshot_key": b"x" * 5000}, {"snapshotter": "", "snapshot_key": ""}),
        ({"snapshotter": "a b", "snapshot_key": b"app"}, {"snapshotter": "", "snapshot_key": ""}),
    ],
    ids=str,
)
def test_a_container_has_only_what_a_store_can_keep(
    fields: dict[str, Any], kept: dict[str, Any], tmp_path: Path
) -> None:
    answer = LIST_CONTAINERS.response(container={"id": "app", **fields})
    with (
        answering(tmp_path / "grpc", answer.SerializeToString()),
        Containerd(str(tmp_path / "grpc")) as source,
    ):
        [container] = source.containers()
    assert {name: getattr(container, name) for name in kept} == kept


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
