"""Verification of a source's content."""

from __future__ import annotations

import pytest

from imagekeep.digest import digest_of
from imagekeep.errors import ContentNotFoundError, CorruptContentError, InvalidDigestError
from imagekeep.oci.content import DOCUMENT_LIMIT, read_document
from imagekeep.oci.descriptor import Descriptor
from tests.oci.blobs import Blobs, descriptor

INLINE = Descriptor("application/json", digest_of(b"{}"), 2, b"{}")


def test_inline_bytes_are_taken_without_asking_the_source() -> None:
    content = Blobs()
    assert (read_document(content, INLINE), content.reads) == (b"{}", 0)


@pytest.mark.parametrize(
    "inline",
    [
        pytest.param(INLINE._replace(size=3), id="another size"),
        pytest.param(INLINE._replace(data=b"[]"), id="another digest"),
        pytest.param(INLINE._replace(data=b""), id="none"),
    ],
)
def test_inline_bytes_that_do_not_fit_leave_the_source_to_answer(inline: Descriptor) -> None:
    content = Blobs()
    with pytest.raises(ContentNotFoundError):
        read_document(content, inline)
    content.add("application/json", b"{}")
    assert read_document(content, inline) == b"{}"


def test_a_descriptor_of_nothing_needs_no_source() -> None:
    assert read_document(Blobs(), Descriptor("", digest_of(b""), 0)) == b""


@pytest.mark.parametrize("size", [-1, 0, 1, 2**62])
def test_a_size_that_is_not_the_blob_s_is_ignored(size: int) -> None:
    content = Blobs()
    entry = content.add("application/json", b"{}")
    assert read_document(content, descriptor(entry)._replace(size=size)) == b"{}"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_bytes_with_another_digest_are_corrupt(algorithm: str) -> None:
    content = Blobs()
    digest = digest_of(b"{}", algorithm)
    content.blobs[digest] = b"{}"
    assert read_document(content, Descriptor("", digest, 2)) == b"{}"
    content.blobs[digest] = b"[]"
    with pytest.raises(CorruptContentError):
        read_document(content, Descriptor("", digest, 2))


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:abc", "md5:" + "0" * 32, "../../etc/passwd"])
def test_a_source_is_never_asked_for_what_is_no_digest(digest: str) -> None:
    content = Blobs()
    with pytest.raises(InvalidDigestError):
        read_document(content, Descriptor("", digest, 1))
    assert content.reads == 0


def test_a_document_may_have_the_limit_s_bytes_and_no_more() -> None:
    content = Blobs()
    largest = content.add("", b" " * DOCUMENT_LIMIT)
    larger = content.add("", b" " * (DOCUMENT_LIMIT + 1))
    assert len(read_document(content, descriptor(largest))) == DOCUMENT_LIMIT
    with pytest.raises(CorruptContentError, match="more than"):
        read_document(content, descriptor(larger)._replace(size=1))
