"""Digests and truncated ids."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.digest import (
    ENCODED_LENGTHS,
    LIMIT_PER_RANGE,
    DigestQuery,
    digest_of,
    is_digest,
    parse_query,
    split,
    validate,
    verify,
)
from imagekeep.errors import (
    AmbiguousError,
    CorruptContentError,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidDigestError,
)

HEX = "2971c8c429507199bc5fc445fda7589b98365731e5e63a15f9cc12e197cedd4f"
Reason = InvalidDigestError.Reason

# Few characters and long shared beginnings, so that ids of different algorithms begin one another.
bases = st.sampled_from(["0" * 128, "f" * 128, "09af" * 32])


@st.composite
def digests(draw: st.DrawFn) -> str:
    """Draw a digest that shares a leading part with many others."""
    algorithm, length = draw(st.sampled_from(sorted(ENCODED_LENGTHS.items())))
    shared = draw(bases)[: draw(st.sampled_from([0, 1, 2, 63, 64, 65, 95, 96, 97, 128]))][:length]
    return f"{algorithm}:{shared.ljust(length, draw(st.sampled_from('0f9a')))}"


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a leading part of a digest, with the digest's algorithm, with another or with none."""
    encoded = split(draw(digests()))[1][: draw(st.sampled_from([1, 2, 3, 63, 64, 65, 96, 97, 128]))]
    prefix = draw(st.sampled_from(["", "", "sha256:", "sha384:", "sha512:", "md5:", ":"]))
    return prefix + encoded + draw(st.sampled_from(["", "", "", "g", "A", "\n"]))


def look_up_in_whole_set(query: DigestQuery, ids: set[str]) -> str:
    """Return what digestset's Lookup answers: it searches for the start and compares the next two ids."""
    entries = sorted(split(digest)[::-1] for digest in ids)
    position = sum(entry < (query.encoded, query.algorithm) for entry in entries)
    nearest = entries[position : position + 2]
    matching = [
        encoded.startswith(query.encoded) and query.algorithm in ("", algorithm)
        for encoded, algorithm in nearest
    ]
    if not any(matching[:1]):
        return "not found"
    if nearest[0] != (query.encoded, query.algorithm) and all(matching) and len(matching) > 1:
        return "ambiguous"
    return ":".join(nearest[0][::-1])


def look_up_by_ranges(query: DigestQuery, ids: set[str], reverse: bool) -> str:
    """Return what `choose` answers to the results of the indexed queries, in either order."""
    candidates: list[str] = []
    for low, high in query.ranges():
        candidates += sorted(digest for digest in ids if low <= digest < high)[:LIMIT_PER_RANGE]
    try:
        return query.choose(reversed(candidates) if reverse else candidates)
    except ImageNotFoundError:
        return "not found"
    except AmbiguousError:
        return "ambiguous"


@given(st.sets(digests(), max_size=12), queries(), st.booleans())
def test_two_ids_of_each_range_give_the_answer_of_the_whole_set(
    ids: set[str], text: str, reverse: bool
) -> None:
    query = parse_query(text)
    assert look_up_by_ranges(query, ids, reverse) == look_up_in_whole_set(query, ids)


@given(st.sets(digests(), min_size=1, max_size=12), st.data())
def test_a_full_digest_is_found_if_and_only_if_it_is_in_the_set(ids: set[str], data: st.DataObject) -> None:
    digest = data.draw(st.sampled_from(sorted(ids)) | digests())
    found = look_up_by_ranges(parse_query(digest), ids, reverse=False)
    assert found == (digest if digest in ids else "not found")


@given(digests(), queries())
def test_a_range_holds_exactly_the_ids_that_begin_with_the_query(digest: str, text: str) -> None:
    query = parse_query(text)
    within = any(low <= digest < high for low, high in query.ranges())
    searchable = query.algorithm in ("", *ENCODED_LENGTHS)
    assert within == (searchable and split(digest)[1].startswith(query.encoded))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.FORMAT),
        ("sha256", Reason.FORMAT),
        ("sha256:", Reason.FORMAT),
        (f":{HEX}", Reason.FORMAT),
        (f"SHA256:{HEX}", Reason.FORMAT),
        ("md5:", Reason.FORMAT),
        ("md5:a:b", Reason.FORMAT),
        (f"md5:{HEX}\n", Reason.FORMAT),
        ("md5:a", Reason.ALGORITHM),
        ("sha256+b64u:_-=", Reason.ALGORITHM),
        ("sha256:abc", Reason.LENGTH),
        (f"sha256:{HEX}\n", Reason.LENGTH),
        (f"sha512:{HEX}", Reason.LENGTH),
        (f"sha256:{HEX.upper()}", Reason.FORMAT),
        (f"sha256:{HEX[:63]}g", Reason.FORMAT),
    ],
)
def test_an_invalid_digest_has_a_reason(text: str, reason: Reason) -> None:
    with pytest.raises(InvalidDigestError) as raised:
        validate(text)
    assert raised.value.reason is reason
    assert not is_digest(text)


def test_the_length_in_bytes_is_checked_before_the_characters() -> None:
    with pytest.raises(InvalidDigestError) as raised:
        validate("sha256:" + "é" * 32)
    assert raised.value.reason is Reason.FORMAT


def test_a_lone_surrogate_is_an_invalid_digest_not_an_encoding_error() -> None:
    assert not is_digest("sha256:\ud800")


@pytest.mark.parametrize("algorithm", sorted(ENCODED_LENGTHS))
def test_the_digest_of_content_is_valid_and_verifies_it(algorithm: str) -> None:
    digest = digest_of(b"config", algorithm)
    assert split(digest) == (algorithm, hashlib.new(algorithm, b"config").hexdigest())
    verify(digest, b"config")


def test_other_content_does_not_verify() -> None:
    with pytest.raises(CorruptContentError, match=digest_of(b"config")):
        verify(digest_of(b"config"), b"another")


def test_verifying_against_an_invalid_digest_raises() -> None:
    with pytest.raises(InvalidDigestError):
        verify("sha256:abc", b"config")


def test_digest_of_refuses_an_unavailable_algorithm() -> None:
    with pytest.raises(InvalidDigestError) as raised:
        digest_of(b"config", "md5")
    assert raised.value.reason is Reason.ALGORITHM


def test_the_empty_query_is_invalid() -> None:
    with pytest.raises(InvalidArgumentError):
        parse_query("")


@pytest.mark.parametrize("text", ["abc", ":", "sha256", "sha256:", f"sha256:{HEX.upper()}"])
def test_a_query_that_is_not_a_digest_has_no_algorithm(text: str) -> None:
    assert parse_query(text) == DigestQuery("", text)


@pytest.mark.parametrize("text", ["sha256:abc", "md5:abc"])
def test_a_query_of_another_length_or_algorithm_is_split(text: str) -> None:
    assert parse_query(text) == DigestQuery(*text.split(":"))


def test_a_query_that_cannot_match_has_no_ranges() -> None:
    assert [parse_query(text).ranges() for text in ("xyz", "md5:abc", "ABC", "a" * 129)] == [()] * 4


def test_an_ambiguous_query_lists_the_matching_ids() -> None:
    ids = [f"sha256:{HEX[:8]}{end * 56}" for end in "0f"]
    with pytest.raises(AmbiguousError) as raised:
        parse_query(HEX[:8]).choose(reversed(ids))
    assert raised.value.candidates == tuple(ids)


def test_an_id_of_an_earlier_algorithm_with_exactly_this_hex_is_skipped() -> None:
    longer = f"sha512:{HEX}{HEX}"
    assert parse_query(f"sha512:{HEX}").choose([f"sha256:{HEX}", longer]) == longer


def test_an_id_of_another_algorithm_between_two_hides_that_there_are_two() -> None:
    ids = [f"sha256:{HEX[:4]}{end * 60}" for end in "0f"]
    assert parse_query(f"sha256:{HEX[:4]}").choose([*ids, f"sha512:{HEX[:4]}" + "8" * 124]) == ids[0]


def test_an_id_of_another_algorithm_that_comes_first_hides_the_match() -> None:
    ids = [f"sha512:{HEX[:4]}" + "0" * 124, f"sha256:{HEX[:4]}" + "f" * 60]
    with pytest.raises(ImageNotFoundError):
        parse_query(f"sha256:{HEX[:4]}").choose(ids)
