"""Reads tar as Go's archive/tar does, in bounded memory.

An archive is a sequence of members, each a header block of 512 bytes and its content, padded to whole blocks; two
blocks of zeros end it. What does not fit in a header is in extra members before it: pax records (POSIX.1-2001) or
GNU's long names.

The standard library's tarfile does not fit. It reads such extra members whole, whatever size they state, so a few
hundred bytes of gzip could take all memory; and it treats a damaged header as the end of the archive, so images
would vanish without an error. This reader has limits, and a truncated archive is an error.

    for member in members(tar):
        if member.kind is MemberType.REGULAR:
            content = tar.read(member.size)      # or none of it, or a part: the rest is skipped
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imagekeep.errors import InvalidDocumentError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512

HEADER_LIMIT = 200_000
"""Maximum number of headers in an archive: each takes about 400 bytes of memory."""

EXTENSION_LIMIT = 1 << 20
"""Maximum bytes of pax records, or of a long name, of one member, as in Go."""

EXTENSIONS_LIMIT = 32 << 20
"""Maximum bytes of these in one archive: compressed, a few hundred bytes of pax records take a second to read."""

NAME_LIMIT = 4096
"""Maximum bytes of a member's name or its link's target: Linux's longest path."""

_ZEROS = bytes(BLOCK)
_CHECKSUM = slice(148, 156)
_EXTENSIONS = frozenset(b"xgLK")
_CONTENTLESS = frozenset(b"123456")


class TarInput(Protocol):
    """Reads an archive forward; `name` is for messages, `position` counts bytes from 0."""

    name: str
    position: int

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, and fewer only at the end."""
        ...

    def skip(self, count: int) -> int:
        """Skip the next `count` bytes; return how many there were, fewer only at the end."""
        ...


class MemberType(enum.Enum):
    """The type of a member; directories, devices and all else are OTHER, and are skipped."""

    REGULAR = "regular"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    OTHER = "other"


_TYPES = {
    0: MemberType.REGULAR,
    ord("0"): MemberType.REGULAR,
    ord("1"): MemberType.HARD_LINK,
    ord("2"): MemberType.SYMBOLIC_LINK,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its name as written, its content's size in bytes, and what it links to if it is a link."""

    name: str
    kind: MemberType
    size: int
    link: str


@dataclass(slots=True)
class _Extension:
    """Fields of extra members, which replace those of the next header."""

    path: bytes = b""
    link: bytes = b""
    size: int | None = None
    sparse: bool = False
    sparse_name: bytes = b""


def members(tar: TarInput) -> Iterator[Member]:
    """Yield each member, with `tar` at the start of its content, of which the caller may read any part.

    Raises InvalidDocumentError if this is not a tar archive, is damaged or truncated, exceeds a limit, or has a
    sparse member, whose stored bytes are not its content.
    """
    extension = _Extension()
    extensions_left = EXTENSIONS_LIMIT
    for count in itertools.count():
        if (block := _next_header(tar)) is None:
            return
        if count == HEADER_LIMIT:
            raise damaged(tar, f"has more than {HEADER_LIMIT} members")
        flag, size = block[156], _number(block[124:136], tar)
        if flag in _EXTENSIONS:
            content = _extension_content(tar, size)
            extensions_left -= len(content)
            if extensions_left < 0:
                raise damaged(tar, f"has more than {EXTENSIONS_LIMIT} bytes of extended headers")
            _extend(extension, flag, content, tar)
            continue
        member = _member(block, size, extension, tar)
        end = tar.position + member.size
        yield member
        _pass_to(tar, end)
        extension = _Extension()


def damaged(tar: TarInput, what: str) -> InvalidDocumentError:
    """Return the error for an archive that cannot be read."""
    return InvalidDocumentError(tar.name, InvalidDocumentError.Reason.SYNTAX, f"the archive {what}")


def _next_header(tar: TarInput) -> bytes | None:
    """Return the next header block, or None at the end of the archive.

    As in Go, the file may end without the blocks of zeros.
    """
    start = tar.position
    block = tar.read(BLOCK)
    if not block and start == 0:
        raise damaged(tar, "is empty")
    if block == _ZEROS:
        block = tar.read(BLOCK)
        if block in (_ZEROS, b""):
            return None
        raise damaged(tar, f"goes on after a block of zeros, at byte {start}")
    if not block:
        return None
    if len(block) < BLOCK or not _checksum_fits(block, tar):
        problem = f"is damaged or truncated at byte {start}" if start else "is not a tar archive"
        raise damaged(tar, problem)
    return block


def _checksum_fits(block: bytes, tar: TarInput) -> bool:
    """Return whether a header's checksum is right; some old programs sum signed bytes."""
    try:
        stated = _number(block[_CHECKSUM], tar)
    except InvalidDocumentError:
        return False
    summed = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    unsigned = sum(summed)
    return stated == unsigned or stated == unsigned - 256 * sum(byte > 127 for byte in summed)


def _number(field: bytes, tar: TarInput) -> int:
    """Return a header's number: octal digits, or binary if the first bit is set (GNU, star)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        negative = bool(field[0] & 0x40)
    else:
        digits = field.strip(b" \0").partition(b"\0")[0]
        if digits.strip(b"01234567"):
            raise damaged(tar, f"has a header with a bad number, before byte {tar.position}")
        value, negative = int(digits or b"0", 8), False
    if negative or value >= 1 << 63:
        raise damaged(tar, f"has a header with an impossible number, before byte {tar.position}")
    return value


def _extension_content(tar: TarInput, size: int) -> bytes:
    """Return the content of a pax or long-name member, and skip its padding."""
    if size > EXTENSION_LIMIT:
        raise damaged(tar, f"has a header of {size} bytes at byte {tar.position}")
    end = tar.position + size
    content = tar.read(size)
    _pass_to(tar, end)
    return content


def _extend(extension: _Extension, flag: int, content: bytes, tar: TarInput) -> None:
    """Apply a pax or long-name member; global pax records (`g`) are ignored, as in Go."""
    if flag == ord("L"):
        extension.path = content.partition(b"\0")[0]
    elif flag == ord("K"):
        extension.link = content.partition(b"\0")[0]
    elif flag == ord("x"):
        _extend_by_pax(extension, content, tar)


def _extend_by_pax(extension: _Extension, content: bytes, tar: TarInput) -> None:
    """Apply the pax records in use here; an empty value leaves the header's own (POSIX pax)."""
    for key, value in _pax_records(content, tar):
        if key.startswith(b"GNU.sparse."):
            extension.sparse = True
            if key == b"GNU.sparse.name" and value:
                extension.sparse_name = value
        elif key == b"path" and value:
            extension.path = value
        elif key == b"linkpath" and value:
            extension.link = value
        elif key == b"size" and value:
            if not value.isdigit() or len(value) > 19:
                raise damaged(tar, f"has a pax record with a bad size, before byte {tar.position}")
            extension.size = int(value)


def _pax_records(content: bytes, tar: TarInput) -> Iterator[tuple[bytes, bytes]]:
    """Yield the key and value of each record: `LENGTH KEY=VALUE NEWLINE`, all of it counted in LENGTH."""
    start = 0
    while start < len(content):
        length = content[start : start + 8].partition(b" ")[0]
        end = start + int(length) if length.isdigit() else 0
        record = content[start + len(length) + 1 : end]
        if end > len(content) or not record.endswith(b"\n") or b"=" not in record:
            raise damaged(tar, f"has malformed pax records before byte {tar.position}")
        key, _, value = record[:-1].partition(b"=")
        yield key, value
        start = end


def _member(block: bytes, size: int, extension: _Extension, tar: TarInput) -> Member:
    """Build the member that a header and the extensions before it describe."""
    flag = block[156]
    if flag == ord("S") or extension.sparse:
        raise _sparse(tar, extension.sparse_name or extension.path or _path(block))
    if extension.size is not None:
        size = extension.size
    path = extension.path or _path(block)
    link = extension.link or _text(block[157:257])
    if len(path) > NAME_LIMIT or len(link) > NAME_LIMIT:
        raise damaged(tar, f"has a name of more than {NAME_LIMIT} bytes, before byte {tar.position}")
    kind = _TYPES.get(flag, MemberType.OTHER)
    if flag == 0 and path.endswith(b"/"):
        kind = MemberType.OTHER
    return Member(_decode(path), kind, 0 if flag in _CONTENTLESS else size, _decode(link))


def _path(block: bytes) -> bytes:
    """Return the name in a header; in the POSIX format its first part may be in a separate field."""
    name = _text(block[:100])
    if block[257:263] != b"ustar\0":
        return name
    prefix = _text(block[345:476] if block[508:512] == b"tar\0" else block[345:500])
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    """Return a text field up to its first zero byte."""
    return field.partition(b"\0")[0]


def _decode(name: bytes) -> str:
    """Return a name as text; bytes that are not UTF-8 become surrogates, so names stay distinct."""
    return name.decode("utf-8", "surrogateescape")


def _pass_to(tar: TarInput, end: int) -> None:
    """Skip the rest up to `end` and the padding, which the last member may lack, as in Go."""
    left = end - tar.position
    if tar.skip(left) < left:
        raise damaged(tar, f"is truncated: a member ends at byte {end}, the archive at {tar.position}")
    tar.skip(-end % BLOCK)


def _sparse(tar: TarInput, name: bytes) -> InvalidDocumentError:
    member = printable(_decode(name))
    return damaged(tar, f"has the sparse member {member}; make it again without tar's --sparse")
