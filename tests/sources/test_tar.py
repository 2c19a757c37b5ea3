"""Tar: archives of other programs are read, and hostile ones are refused in bounded memory."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.errors import InvalidDocumentError
from imagekeep.sources.archive import tar
from imagekeep.sources.archive.tar import Member, MemberType, members
from imagekeep.sources.archive.tar_input import StreamTarInput
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def stream(content: bytes) -> StreamTarInput:
    return StreamTarInput(io.BytesIO(content), "test.tar")


def read(content: bytes) -> list[tuple[Member, bytes]]:
    passing = stream(content)
    return [(member, passing.read(member.size)) for member in members(passing)]


def archive(*headers: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as writer:
        for header in headers:
            header.size = 0 if header.linkname else len(content)
            writer.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def header(name: str, flag: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = flag, link
    return made


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=120)


@given(
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.lists(st.tuples(NAMES, st.binary()), max_size=4),
)
def test_archives_of_tarfile_are_read(form: int, files: list[tuple[str, bytes]]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as writer:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            writer.addfile(entry, io.BytesIO(content))
    assert [(member.name, content) for member, content in read(buffer.getvalue())] == files


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", ["short", "d/" + "n" * 99, "p" * 90 + "/" + "n" * 90], ids=len)
def test_names_of_every_length_survive_every_format(form: int, name: str) -> None:
    assert [member.name for member, _ in read(archive(header(name), form=form))] == [name]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_name_longer_than_a_header_is_read(form: int) -> None:
    assert [member.name for member, _ in read(archive(header("n" * 300), form=form))] == ["n" * 300]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_long_link_is_read(form: int) -> None:
    content = archive(header("a", tarfile.SYMTYPE, "l" * 300), form=form)
    assert [(member.kind, member.link) for member, _ in read(content)] == [
        (MemberType.SYMBOLIC_LINK, "l" * 300)
    ]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (tarfile.REGTYPE, MemberType.REGULAR),
        (tarfile.AREGTYPE, MemberType.REGULAR),
        (tarfile.LNKTYPE, MemberType.HARD_LINK),
        (tarfile.SYMTYPE, MemberType.SYMBOLIC_LINK),
        (tarfile.DIRTYPE, MemberType.OTHER),
        (tarfile.CHRTYPE, MemberType.OTHER),
        (tarfile.BLKTYPE, MemberType.OTHER),
        (tarfile.FIFOTYPE, MemberType.OTHER),
        (tarfile.CONTTYPE, MemberType.OTHER),
    ],
)
def test_only_files_and_links_have_a_type_of_their_own(flag: bytes, kind: MemberType) -> None:
    assert [member.kind for member, _ in read(archive(header("a", flag)))] == [kind]


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_of_gnu_tar_is_read(form: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    content = run("tar", "-c", "--format", form, "-C", tmp_path, "a", "b")
    assert [(member.name, member.kind) for member, _ in read(content)] == [
        ("a", MemberType.REGULAR),
        ("b", MemberType.SYMBOLIC_LINK),
    ]


def test_a_header_whose_checksum_was_summed_over_signed_bytes_is_read() -> None:
    block = bytearray(archive(header("é"), form=tarfile.GNU_FORMAT)[:512])
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])
    block[148:156] = b"%06o\0 " % signed
    assert [member.name for member, _ in read(bytes(block))] == ["é"]


def test_a_size_of_more_than_eleven_octal_digits_is_read_as_binary() -> None:
    entry = header("a")
    entry.size = 1 << 40
    block = entry.tobuf(tarfile.GNU_FORMAT)
    assert next(members(stream(block))).size == 1 << 40


def test_an_archive_may_end_without_blocks_of_zeros() -> None:
    assert len(read(archive(header("a"))[:512])) == 1


def test_the_last_padding_may_be_missing() -> None:
    assert [content for _, content in read(archive(header("a"), content=b"abc")[:515])] == [b"abc"]


def test_two_global_pax_headers_change_nothing() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"path": "elsewhere"}) as writer:
        writer.addfile(tarfile.TarInfo("a"))
    assert [member.name for member, _ in read(buffer.getvalue())] == ["a"]


SAMPLE = archive(header("a"), header("n" * 300), header("b", tarfile.SYMTYPE, "l" * 300), content=b"x" * 700)


@given(st.integers(0, len(SAMPLE)))
def test_a_truncated_archive_yields_its_beginning_or_raises_a_typed_error(length: int) -> None:
    whole = [member for member, _ in read(SAMPLE)]
    try:
        got = [member for member, _ in read(SAMPLE[:length])]
    except InvalidDocumentError:
        return
    assert got == whole[: len(got)]


@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_archive_is_read_or_raises_a_typed_error(changes: list[tuple[int, int]]) -> None:
    content = bytearray(SAMPLE)
    for position, byte in changes:
        content[position] = byte
    try:
        read(bytes(content))
    except InvalidDocumentError:
        return


@given(st.binary(max_size=2048))
def test_any_bytes_are_read_or_raise_a_typed_error(content: bytes) -> None:
    try:
        read(content)
    except InvalidDocumentError:
        return


@given(st.binary(max_size=600))
def test_any_pax_records_are_read_or_raise_a_typed_error(records: bytes) -> None:
    extension = header("pax", b"x")
    extension.size = len(records)
    padded = extension.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    try:
        read(padded + archive(header("a")))
    except InvalidDocumentError:
        return


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(600), "is not a tar archive"),
        (b"x" * 100, "is not a tar archive"),
        (bytes(512) + b"x" * 512, "goes on after a block of zeros"),
        (archive(header("a"))[:512] + b"x" * 100, "is damaged or truncated at byte 512"),
        (archive(header("a"), content=b"x" * 2000)[:1024], "is truncated"),
    ],
)
def test_other_files_are_not_archives(content: bytes, words: str) -> None:
    with pytest.raises(InvalidDocumentError, match=words):
        read(content)


@pytest.mark.parametrize("flag", [b"x", b"g", b"L", b"K"])
def test_a_header_that_claims_gigabytes_is_refused_before_they_are_read(flag: bytes) -> None:
    extension = header("x", flag)
    extension.size = 8 << 30
    content = extension.tobuf(tarfile.GNU_FORMAT) + bytes(4 << 20)
    passing = stream(content)
    with pytest.raises(InvalidDocumentError, match="has a header of 8589934592 bytes"):
        list(members(passing))
    assert passing.position == 512


def test_a_megabyte_of_tiny_pax_records_takes_linear_time_and_little_memory() -> None:
    records = b"5 a=\n" * ((1 << 20) // 5)
    extension = header("x", b"x")
    extension.size = len(records)
    padded = extension.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    tracemalloc.start()
    read(padded + archive(header("a")))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20


def test_more_headers_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "HEADER_LIMIT", 3)
    assert len(read(archive(header("a"), header("b"), header("c"), form=tarfile.GNU_FORMAT))) == 3
    with pytest.raises(InvalidDocumentError, match="more than 3 members"):
        read(archive(header("a"), header("b"), header("c"), header("d"), form=tarfile.GNU_FORMAT))


def test_more_bytes_of_extended_headers_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [header(f"{number}" + "n" * 200) for number in range(3)]
    content = archive(*names, form=tarfile.PAX_FORMAT)
    assert len(read(content)) == 3
    monkeypatch.setattr(tar, "EXTENSIONS_LIMIT", 500)
    with pytest.raises(InvalidDocumentError, match="more than 500 bytes of extended headers"):
        read(content)


def test_a_name_longer_than_any_path_is_refused() -> None:
    with pytest.raises(InvalidDocumentError, match="a name of more than 4096 bytes"):
        read(archive(header("n" * 4097)))


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_member_is_refused_with_what_to_do(form: str, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    content = run("tar", "-c", "--sparse", "--format", form, "-C", tmp_path, "sparse")
    with pytest.raises(InvalidDocumentError, match="the sparse member sparse; make it again without"):
        read(content)


def test_a_link_has_no_content_whatever_its_header_says() -> None:
    link = header("a", tarfile.SYMTYPE, "b")
    link.size = 5000
    content = link.tobuf(tarfile.USTAR_FORMAT) + archive(header("b"))
    assert [(member.name, member.size) for member, _ in read(content)] == [("a", 0), ("b", 0)]


def test_the_size_in_pax_records_comes_before_the_header_s() -> None:
    entry = header("a")
    entry.size, entry.pax_headers = 0, {"size": "700"}
    content = entry.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024 + archive(header("b"))
    assert [(member.name, member.size) for member, _ in read(content)] == [("a", 700), ("b", 0)]


def test_a_negative_size_is_refused() -> None:
    block = bytearray(archive(header("a"), form=tarfile.GNU_FORMAT)[:512])
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(InvalidDocumentError, match="impossible number"):
        read(bytes(block))
